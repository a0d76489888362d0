"""An account's decisions one after the other: all that is due has its turn, no limit is broken."""

import math
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest

from gateway.job import Account, Kind, Look
from gateway.policy.belief import SILENT, Habit, Noise
from gateway.policy.dispatch import Fetching, Rules, Running, Send, View, next_call
from gateway.policy.polling import PollingRule
from gateway.policy.window import Place, WindowRule

LATENCY = 1.0
POLLING = PollingRule(30.0, 240.0, 600.0, 3600.0)


@dataclass
class Video:
    """One that upstream took at `submitted` and has finished at `ends`."""

    task: Running
    ends: float
    found: float | None = None
    fetched: float | None = None
    retry: float = 0.0


def day(
    rules: Rules, mean: float, exact: bool, seed: int, lasts: float, lost: int = 0
) -> list[Video]:
    """An account whose queue is never empty; each call takes `LATENCY`, one after the other. Of the
    first `lost` videos the content never comes.
    """
    random, now, retried = Random(seed), 0.0, False
    habit = Habit(math.log(mean), 0.15, Noise(0.0) if exact else SILENT)
    videos, places = list[Video](), list[Place]()
    while now < lasts:
        running = [v for v in videos if v.found is None]
        waiting = [v for v in videos if v.found is not None and v.fetched is None]
        view = View(
            now=now,
            account=Account("main"),
            places=places,
            slots_taken=len(running),
            slot_returns=math.inf,
            running=[v.task for v in running],
            fetching=[
                Fetching(v.task.job_id, max(v.retry, v.found or 0.0), *[v.found or 0.0] * 2)
                for v in waiting
            ],
            to_fetch=len(waiting),
            head="next",
            room=True,
            looking=False,
            latency=LATENCY,
            fetched_in_vain=retried,
        )
        decision = next_call(view, rules)
        if not isinstance(decision, Send):
            assert now < decision.until < math.inf
            now = decision.until
            continue
        ended = now + LATENCY
        held = sum((p.ended or 0) + rules.window.period > now for p in places)
        assert held < rules.window.requests
        places = [*places[-30:], Place(now, ended)]
        middle = now + LATENCY / 2
        if decision.kind is Kind.SUBMIT:
            task = Running(str(len(videos)), middle, None, (), habit)
            videos.append(Video(task, middle + mean * math.exp(random.gauss(0.0, 0.15))))
        video = videos[int(decision.job_id or 0)] if decision.kind is not Kind.SUBMIT else None
        retried = decision.kind is Kind.DOWNLOAD and int(decision.job_id or 0) < lost
        if retried and video:
            video.retry = ended + 60.0
        elif decision.kind is Kind.DOWNLOAD and video:
            video.fetched = now
        elif video:
            task, elapsed = video.task, middle - video.task.submitted
            assert task.polled is None or now - task.polled >= POLLING.interval
            if video.ends <= middle:
                video.found = ended
            else:
                told = math.floor(100 * elapsed / (video.ends - task.submitted)) if exact else None
                looks = (*task.looks, Look(elapsed, told))
                video.task = Running(task.job_id, task.submitted, ended, looks, habit)
        now = ended
    return videos


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("mean", [20.0, 60.0, 240.0])
def test_polls_and_downloads_all_have_their_turn(mean: float, exact: bool) -> None:
    rules = Rules(WindowRule(10, 60.0, 1.0), POLLING, concurrent=5)
    videos = day(rules, mean, exact, seed=3, lasts=3 * 3600.0)
    over = [video for video in videos if video.ends < 3 * 3600.0 - 300.0]
    assert len(over) > 100
    for video in over:
        assert video.found is not None
        assert video.found - video.ends < 2 * POLLING.interval + rules.window.period
        assert video.fetched is not None
        assert video.fetched - video.found <= 2 * rules.window.period
    submitted = [video.task.submitted for video in videos]
    assert max(after - before for before, after in pairwise(submitted)) < mean + 180.0


@pytest.mark.parametrize("requests", [1, 3])
def test_content_that_never_comes_leaves_every_other_place_to_all_other_calls(
    requests: int,
) -> None:
    rules = Rules(WindowRule(requests, 60.0, 1.0), POLLING, concurrent=5)
    hours = 6
    lost, found = (
        sum(video.fetched is not None for video in day(rules, 240.0, True, 3, hours * 3600.0, many))
        for many in (requests, 0)
    )
    assert lost > 0.4 * found > 0
