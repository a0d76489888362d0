"""What callers are told of the seconds that are left: in the object and beside it."""

from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import pytest
from sqlalchemy import Connection
from stage import Caller, House

from gateway.job import State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account
from gateway.ledger.transitions import Change, write_account
from gateway.policy.estimate import OUTAGE

from .bench import bring, complete, knows_an_account_that_left


async def told(caller: Caller, video: str) -> int | None:
    """The object's seconds, which the header repeats."""
    answer = await caller.http.get(f"/v1/videos/{video}")
    seconds = answer.json()["estimated_seconds"]
    assert answer.headers.get("x-estimated-seconds") == (seconds and str(seconds))
    assert seconds is None or (isinstance(seconds, int) and seconds >= 1)
    return seconds  # type: ignore[no-any-return]


async def test_it_is_told_at_once_and_until_the_end(house: House, caller: Caller) -> None:
    answer = await caller.post()
    assert answer.headers["x-estimated-seconds"] == str(answer.json()["estimated_seconds"])
    video = answer.json()["id"]
    assert await told(caller, video) is not None
    await bring(house, video, State.SUBMITTING)
    assert await told(caller, video) is not None


@pytest.mark.parametrize("state", [State.RUNNING, State.FETCHING])
async def test_it_is_told_of_what_runs(house: House, caller: Caller, state: State) -> None:
    video = await caller.create()
    now = house.gateway.clock.now()
    times = {"submitted": now} | ({"finished": now} if state is State.FETCHING else {})
    await bring(house, video, state, upstream_id="t", **times)
    assert await told(caller, video) is not None


async def test_it_is_null_for_what_was_adopted_for_an_account_that_is_not_served(
    house: House, make_caller: Any
) -> None:
    await knows_an_account_that_left(house, "left")
    caller = make_caller(house)
    video = await caller.create()
    now = house.gateway.clock.now()
    await bring(house, video, State.RUNNING, upstream_id="t", submitted=now, account="left")
    assert await told(caller, video) is None


@pytest.mark.parametrize("state", [State.QUEUED, State.SUBMITTING, State.RUNNING, State.FETCHING])
async def test_it_is_null_while_the_upstream_is_down(
    house: House, caller: Caller, state: State
) -> None:
    house.gateway.stop_calls()
    video = await caller.create()
    now = house.gateway.clock.now()
    if state is not State.QUEUED:
        times = {"submitted": now} | ({"finished": now} if state is State.FETCHING else {})
        await bring(house, video, state, upstream_id="t", **times)
    assert await told(caller, video) is not None

    def down(conn: Connection) -> Change:
        before = house.account
        failed = replace(before, failures=OUTAGE, opens=now + 60.0)
        return Change(accounts=(write_account(conn, failed),))

    await house.ledger.commit(down)
    assert await told(caller, video) is None


async def test_it_is_null_at_the_end(house: House, caller: Caller) -> None:
    done, failed = [await caller.create(each) for each in ("a cat", "a dog")]
    await complete(house, done)
    await bring(house, failed, State.FAILED, error_code="c", error_message="no")
    assert await told(caller, done) is None
    assert await told(caller, failed) is None


async def test_who_waits_longer_is_told_more(make_gateway, make_caller) -> None:
    house = await make_gateway("http://upstream.invalid", polling={"expected": 300, "max_wait": 600,
                                                                   "task_life": 3600})  # fmt: skip
    house.gateway.stop_calls()
    caller = make_caller(house)
    videos = [await caller.create(f"cat {number}") for number in range(20)]
    seconds = [await told(caller, video) for video in videos]
    assert None not in seconds
    assert seconds == sorted(seconds)  # type: ignore[type-var]
    assert seconds[19] > seconds[0] + 300  # type: ignore[operator]


def teach(house: House, video: str) -> None:
    """Six have waited in line and took ten times as long as the thirty after them, that had not."""
    job = house.ledger.live.jobs[video]
    for waited, held, fetch in [(30.0, 600.0, 50.0)] * 6 + [(0.5, 60.0, 5.0)] * 30:
        taken = job.accepted + waited
        done = replace(job, account="default", submitted=taken, finished=taken + held)
        house.ledger.live.lately.learn(done, taken + held + fetch)


async def test_who_waits_in_line_is_told_by_those_who_did(house: House, caller: Caller) -> None:
    house.gateway.stop_calls()
    video = await caller.create()
    teach(house, video)
    others = [await caller.create(f"cat {number}") for number in range(7)]
    first, last = await told(caller, video), await told(caller, others[-1])
    assert first is not None
    assert last is not None
    assert 60 <= first < 100  # it goes at once
    assert last > 600 + 50  # it waits for one of those before it


@pytest.mark.parametrize(("state", "quiet", "waited"), [(State.SUBMITTING, 65, 650),
                                                        (State.FETCHING, 5, 50)])  # fmt: skip
@pytest.mark.parametrize("wait", [0.0, 30.0])
async def test_who_has_waited_is_told_by_those_who_had(
    house: House, caller: Caller, state: State, quiet: int, waited: int, wait: float
) -> None:
    house.gateway.stop_calls()
    video = await caller.create()
    teach(house, video)
    taken = house.ledger.live.jobs[video].accepted + wait
    times = {"submitted": taken} | ({"finished": taken} if state is State.FETCHING else {})
    await bring(house, video, state, upstream_id="t", **times)
    seconds = await told(caller, video)
    assert seconds is not None
    right, wrong = (waited, quiet) if wait else (quiet, waited)
    assert abs(seconds - wait - right) < abs(seconds - wait - wrong) / 4


async def test_nobody_can_tell_while_nothing_is_sent(
    house: House, caller: Caller, tmp_path: Path
) -> None:
    video = await caller.create()
    commit_beside(house.folder, pause_account("default", True), time())
    house.ledger.catch_up()
    assert await told(caller, video) is None
