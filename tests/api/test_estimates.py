"""What callers are told of the seconds that are left: in the object and beside it."""

from dataclasses import replace
from pathlib import Path
from time import time

import pytest
from stage import Caller, House

from gateway.job import State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account

from .bench import bring, complete


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


async def test_who_waits_in_line_is_told_by_those_who_did(house: House, caller: Caller) -> None:
    house.gateway.stop_calls()
    video = await caller.create()
    job = house.ledger.live.jobs[video]
    for waited, held in [(0.5, 60.0)] * 5 + [(30.0, 600.0)] * 25:
        taken = job.accepted + waited
        done = replace(job, submitted=taken, finished=taken + held)
        house.ledger.live.lately.learn(done, taken + held + 1.0)
    others = [await caller.create(f"cat {number}") for number in range(7)]
    first, last = await told(caller, video), await told(caller, others[-1])
    assert first is not None
    assert last is not None
    assert first < 100  # it goes at once
    assert last > 400 + 600  # it waits for one of those before it


async def test_nobody_can_tell_while_nothing_is_sent(
    house: House, caller: Caller, tmp_path: Path
) -> None:
    video = await caller.create()
    commit_beside(house.folder, pause_account("default", True), time())
    house.ledger.catch_up()
    assert await told(caller, video) is None
