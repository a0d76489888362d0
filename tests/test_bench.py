"""The measurements measure what they say: upstream's record, its arithmetic, one short run of each
who is compared.
"""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from multiprocessing.pool import Pool
from random import Random

import pytest

from bench import blind, estimates, scale
from bench.figures import measure, too_close
from bench.provider import LATENCY, NO_LATENCY, Limits, Provider, Task, Videos, Visit
from bench.slots import Result, Run, line, missed, perform
from tests.simulation.loop import VirtualLoop

VIDEOS = Videos(240, 0.15, "exact")

Perform = Callable[..., Result]


def provider_on(loop: VirtualLoop, limits: Limits | None = None) -> Provider:
    return Provider(Random(1), loop.time, VIDEOS, NO_LATENCY, limits or Limits())


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop(Random(1), 0.0, 0.0)


def go(loop: VirtualLoop, work: Awaitable[None]) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(scope="module")
def process() -> Iterator[Pool]:
    """One that is used for runs and nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def performed(process: Pool) -> Perform:
    """Makes runs of a quarter of an hour."""

    def make(who: str, limits: Limits, told: Limits | None = None) -> Result:
        run = Run("240-15-exact", who, LATENCY, 0.25)
        return process.apply(partial(perform, run, 7, limits, told=told, warm_up=0.15))

    return make


def test_a_call_too_many_is_refused_and_one_a_period_later_is_not(loop: VirtualLoop) -> None:
    provider = provider_on(loop)

    async def calls() -> None:
        statuses = [(await provider.call("poll", "none"))[0] for _ in range(11)]
        assert statuses == [404] * 10 + [429]
        await asyncio.sleep(59.999)
        assert (await provider.call("poll", "none"))[0] == 429
        await asyncio.sleep(0.001)
        assert (await provider.call("poll", "none"))[0] == 404

    go(loop, calls())
    assert provider.late_breaches == 0


def test_answers_that_end_too_close_break_a_window_that_counts_ends(loop: VirtualLoop) -> None:
    """One call in 60 s, sent every 60.5: some arrive late enough and yet end too early."""
    provider = Provider(Random(3), loop.time, VIDEOS, (0.3, 1.5), Limits(requests=1))

    async def calls() -> None:
        for _ in range(100):
            await provider.call("poll", "none")
            await asyncio.sleep(60.5 - loop.time() % 60.5)

    go(loop, calls())
    served = [visit.ended for visit in provider.visits if visit.status == 404 and visit.ended]
    assert provider.late_breaches == too_close(served, 60) > 0


def test_refused_calls_count_where_upstream_is_strict(loop: VirtualLoop) -> None:
    provider = provider_on(loop, Limits(requests=1, strict=True))

    async def calls() -> None:
        statuses = []
        for _ in range(3):
            statuses.append((await provider.call("poll", "none"))[0])
            await asyncio.sleep(40)
        assert statuses == [404, 429, 429]

    go(loop, calls())


def test_a_slot_is_taken_until_the_end_and_progress_is_exact(loop: VirtualLoop) -> None:
    provider = provider_on(loop, Limits(concurrent=1))

    async def calls() -> None:
        _, accepted = await provider.call("submit")
        assert (await provider.call("submit"))[0] == 429
        assert isinstance(accepted, dict)
        task = provider.tasks[accepted["id"]]
        assert (await provider.call("download", task.id))[0] == 404
        await asyncio.sleep(task.duration * 0.505)
        _, video = await provider.call("poll", task.id)
        assert video == {
            "id": task.id, "object": "video", "status": "in_progress", "progress": 50
        }  # fmt: skip
        await asyncio.sleep(task.duration * 0.495)
        _, video = await provider.call("poll", task.id)
        assert isinstance(video, dict)
        assert video["status"] == "completed"
        assert (await provider.call("submit"))[0] == 200

    go(loop, calls())


@pytest.mark.parametrize("spread", [0.15, 0.4])
def test_durations_have_the_mean_and_the_spread_that_was_asked_for(spread: float) -> None:
    videos, chance = Videos(100, spread, "none"), Random(1)
    drawn = [videos.draw(chance) for _ in range(20_000)]
    mean = sum(drawn) / len(drawn)
    deviation = (sum((each - mean) ** 2 for each in drawn) / len(drawn)) ** 0.5
    assert mean == pytest.approx(100, rel=0.01)
    assert deviation == pytest.approx(100 * spread, rel=0.03)
    assert min(drawn) >= 20
    assert max(drawn) <= 300


def record(loop: VirtualLoop) -> Provider:
    """Two videos of 100 s through one slot: the first was seen 4 s late, the second came 3 s
    after that.
    """
    provider = provider_on(loop, Limits(concurrent=1))
    provider.tasks = {"a": Task("a", 10, 110), "b": Task("b", 117, 217)}
    provider.visits = [
        Visit("submit", "a", 9, 10, 11, 200),
        Visit("poll", "a", 80, 80, 81, 200),
        Visit("poll", "a", 109, 110.5, 111, 429),
        Visit("poll", "a", 112, 113, 114, 200, tells_end=True),
        Visit("download", "a", 114, 115, 116, 200),
        Visit("submit", "b", 116, 117, 118, 200),
        Visit("poll", "b", 217, 217, 218, 200, tells_end=True),
        Visit("download", "b", 219, 220, 400, 200),
    ]
    return provider


def test_figures_are_those_of_the_record(loop: VirtualLoop) -> None:
    figures = measure([record(loop)], [{"a": 116.5, "b": 401}], (0, 360), 30, 0)
    loop.close()
    assert figures.videos == 1  # the other was not here in time
    assert figures.rate == 10
    assert figures.limit == pytest.approx(36)  # one slot, videos of 100 s
    assert figures.share == pytest.approx(10 / 36)
    assert figures.calls == {"submit": 2, "poll": 4, "download": 1}
    assert figures.refused == 1
    assert (figures.close_by_sending, figures.close_by_arrival) == (2, 1)
    assert figures.delay == 6.5
    assert (figures.unseen, figures.unfilled) == (4, 3)


def test_the_limit_is_that_of_the_window_where_videos_are_fast(loop: VirtualLoop) -> None:
    provider = record(loop)
    provider.limits = Limits(requests=1, concurrent=5)
    loop.close()
    calls = measure([provider], [{}], (0, 360), 30, 1.0)
    seconds = [visit.ended - visit.sent for visit in provider.visits[:-1] if visit.ended]
    latency = sum(seconds) / len(seconds)
    assert calls.limit == pytest.approx(3600 / (60 + 1 + latency) / 3)


def test_polls_one_interval_apart_are_not_too_close() -> None:
    assert too_close([0, 30, 60, 89.99, 119.99], 30) == 1


def test_who_knows_when_videos_end_reaches_the_limit(loop: VirtualLoop) -> None:
    """Five that look at the very end, and fill the slot at once, with a window that never binds:
    nobody can do better.
    """
    provider = provider_on(loop, Limits(requests=1000))

    async def work() -> None:
        while True:
            _, video = await provider.call("submit")
            assert isinstance(video, dict)
            await asyncio.sleep(provider.tasks[video["id"]].duration)
            await provider.call("poll", video["id"])
            assert (await provider.call("download", video["id"]))[0] == 200

    async def calls() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(25 * 3600), asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(work())

    go(loop, calls())
    figures = measure([provider], [{}], (3600, 25 * 3600), 30, 0)
    assert figures.share == pytest.approx(1, abs=0.002)
    assert figures.calls_a_video == pytest.approx(3, abs=0.01)
    assert (figures.unseen, figures.unfilled) == (0, 0)


@pytest.fixture(scope="module")
def gateway(performed: Perform) -> Result:
    return performed("gateway", Limits())


def test_the_gateway_breaks_nothing_and_fills_slots(gateway: Result) -> None:
    figures = gateway.figures
    assert 0.6 < figures.share < 1.2
    assert figures.refused == figures.late_breaches == figures.close_by_sending == 0
    assert figures.calls["submit"] == pytest.approx(1, abs=0.4)
    assert figures.calls["poll"] >= 1 - 0.4
    assert figures.delay > 0
    idle = figures.unseen + figures.unfilled
    assert figures.share == pytest.approx(240 / (240 + idle), abs=0.2)


def test_a_run_is_the_same_again(performed: Perform, gateway: Result) -> None:
    assert performed("gateway", Limits()) == gateway


def test_a_window_that_is_smaller_than_the_gateway_was_told_shows(performed: Perform) -> None:
    result = performed("gateway", Limits(requests=5), told=Limits())
    assert result.figures.refused > 0
    assert "429" in missed(result)
    assert f"| {result.figures.refused} |" in line(result)


@pytest.mark.parametrize("who", ["naive", "sdk"])
def test_peers_make_videos(performed: Perform, who: str) -> None:
    result = performed(who, Limits())
    figures = result.figures
    assert 0.4 < figures.share < 1.2
    assert (figures.refused == 0) is (who == "naive")
    assert (result.lost == 0) is (who == "naive")
    assert not missed(result)


def test_polls_that_are_told_nothing_see_ends_half_an_interval_late() -> None:
    wide = Limits(requests=1000)
    busy, calls = blind.play(200, 1, wide, downloads=True)
    assert busy == pytest.approx(240 / 255, abs=0.003)
    assert blind.play(200, 1, wide, downloads=False) == (busy, calls)


def test_a_blind_policy_keeps_to_its_window() -> None:
    limits = Limits(requests=4)
    busy, calls = blind.play(200, 1, limits, downloads=True)
    videos = busy * limits.concurrent / 240  # a second
    most = limits.requests / limits.period
    assert videos * calls == pytest.approx(most, rel=0.02)
    more, _ = blind.play(200, 1, limits, downloads=False)
    assert more > busy + 0.01


def test_the_large_ledger_runs_small(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--jobs", "20", "--queued", "5", "--callers", "2", "--accounts", "3", "--rounds", "1")
    scale.main(sizes)
    told = capsys.readouterr().out
    assert "20 jobs, 5 queued, 2 callers, 3 accounts" in told
    assert "status of a waiting job" in told


@pytest.mark.parametrize("load", estimates.LOADS)
def test_estimates_are_held_against_what_became_of_the_jobs(process: Pool, load: str) -> None:
    run = estimates.Run("240-15-exact", load, 0.5)
    _, told = process.apply(partial(estimates.perform, run, 7, warm_up=0.2))
    asked = {"full": "queued, 20 before it"}.get(load, "accepted, 0 before it")
    for kind in (asked, "running", "download begins"):
        assert told[kind].exact
        assert not told[kind].nothing
    assert told[asked].error() < 240.0
    assert len([*estimates.lines(run, told)]) == len(told)
