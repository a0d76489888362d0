"""A restart is nothing but reading the ledger."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.clock import Boot
from gateway.errors import StartError
from gateway.job import Kind, Look, State
from gateway.ledger.callers import add_key
from gateway.ledger.lately import REMEMBERED
from gateway.ledger.ledger import Ledger
from gateway.ledger.operator import pause_account
from gateway.ledger.transitions import forget, settle
from gateway.policy.habit import unknown

from .bench import (
    ACCOUNT,
    BOOT,
    DAY,
    WALL,
    WINDOWS,
    a_job,
    accepted,
    ended_unknown,
    moved,
    query,
    reserve_submit,
    reserved,
)
from .conftest import MakeLedger

LATER = replace(BOOT, seconds=BOOT.seconds + 30, wall=WALL + 30)
"""The same boot, half a minute on."""


async def call_that_ended(ledger: Ledger, at: float, **over: bool) -> None:
    call = await reserved(ledger, now=at)
    touched = over.get("touched", True)
    await ledger.commit(
        settle(call, lambda a: a, None, None, {}, outcome="missing", touched=touched, now=at)
    )


def now(ledger: Ledger, boot: Boot) -> float:
    """The moment on the ledger's timeline at which `boot` was read."""
    return boot.seconds + ledger.offset


async def test_the_queue_keeps_its_order(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    jobs = [await accepted(ledger, number) for number in (5, 3, 9)]
    await reserve_submit(ledger, jobs[0])
    await ledger.close()
    again = await open_ledger(LATER)
    assert again.live.line.first() == jobs[1]
    await moved(again, jobs[1], State.CANCELLED)
    assert again.live.line.first() == jobs[2]
    assert again.live.counts[State.QUEUED] == 1
    assert again.live.counts[State.SUBMITTING] == 1


async def test_memory_is_the_same_as_before(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    await accepted(ledger, 1, input_sha256="ab" * 32, input_type="image/png")
    running = await accepted(ledger, 2, state=State.RUNNING, account=ACCOUNT)
    await accepted(ledger, 3, state=State.FETCHING, account=ACCOUNT)
    await accepted(ledger, 4, state=State.COMPLETED, account=ACCOUNT)
    submit = await reserve_submit(ledger, await accepted(ledger, 5))
    await ended_unknown(ledger, *submit, WALL + 100)
    await reserved(ledger, Kind.POLL, running)
    await call_that_ended(ledger, WALL + 10)
    before = ledger.live
    await ledger.close()
    after = (await open_ledger(LATER)).live
    assert (after.jobs, after.counts) == (before.jobs, before.counts)
    one, other = before.books[ACCOUNT], after.books[ACCOUNT]
    assert (one.account, one.tasks) == (other.account, other.tasks)
    assert (one.calls, one.ghosts) == (other.calls, other.ghosts)


async def test_the_calls_of_the_last_period_are_remembered(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    for at in (WALL - 40, WALL - 20, WALL):
        await call_that_ended(ledger, at)
    await call_that_ended(ledger, WALL, touched=False)
    await ledger.close()
    again = await open_ledger(LATER)  # places return 61 s after the end
    ends = [call.ended for call in again.live.books[ACCOUNT].calls.values()]
    assert ends == [WALL - 20, WALL]


async def test_a_call_whose_end_nobody_saw_is_still_open(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    call, _ = await reserve_submit(ledger, await accepted(ledger))
    probe = await reserved(ledger)
    await ledger.close()
    for boot in (LATER, Boot("boot-b", 5.0, WALL + 5 * DAY)):
        again = await open_ledger(boot)
        assert again.live.books[ACCOUNT].open_calls() == [call, probe]
        await again.close()


@pytest.mark.parametrize("step", [-DAY, 0.0, 3600.0, 400 * DAY])
async def test_in_the_same_boot_no_step_of_the_wall_clock_has_any_effect(
    open_ledger: MakeLedger, step: float
) -> None:
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL)
    await ledger.close()
    again = await open_ledger(replace(LATER, wall=LATER.wall + step))
    assert (again.boot, again.offset) == (ledger.boot, ledger.offset)
    assert now(again, LATER) == WALL + 30
    assert len(again.live.books[ACCOUNT].calls) == 1
    assert again.live.books[ACCOUNT].account.opens == 0.0


@pytest.mark.parametrize("step", [-DAY, -1.0, 0.0, 3600.0, 400 * DAY])
async def test_after_another_boot_an_account_waits_for_one_window_first(
    open_ledger: MakeLedger, step: float
) -> None:
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL + 10)
    await ledger.close()
    other = Boot("boot-b", 3.0, WALL + step)
    again = await open_ledger(other)
    started = now(again, other)
    assert started >= WALL + 10  # the timeline never runs backwards
    assert again.live.books[ACCOUNT].account.opens == started + WINDOWS[ACCOUNT]
    assert again.boot != ledger.boot


async def test_no_operator_shortens_the_wait_of_a_new_boot(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL)
    await ledger.close()
    again = await open_ledger(Boot("boot-b", 3.0, WALL + 20))
    await again.commit(pause_account(ACCOUNT, False))
    assert again.live.books[ACCOUNT].account.opens == WALL + 61.0


async def test_a_pause_survives_a_restart_and_whatever_a_call_teaches(
    open_ledger: MakeLedger,
) -> None:
    ledger = await open_ledger()
    await ledger.commit(pause_account(ACCOUNT, True))
    await call_that_ended(ledger, WALL)
    assert ledger.live.books[ACCOUNT].account.paused
    await ledger.close()
    assert (await open_ledger(LATER)).live.books[ACCOUNT].account.paused


async def test_the_wait_of_a_new_boot_survives_a_restart_within_it(
    open_ledger: MakeLedger,
) -> None:
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL)
    await ledger.close()
    first = await open_ledger(Boot("boot-b", 3.0, WALL + 20))
    await first.close()
    second = await open_ledger(Boot("boot-b", 9.0, WALL - DAY))
    assert second.live.books[ACCOUNT].account.opens == WALL + 61.0
    assert second.offset == first.offset


async def test_an_account_that_waits_longer_still_waits_as_long(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    call = await reserved(ledger)
    await ledger.commit(
        settle(
            call,
            lambda account: replace(account, opens=WALL + 3600),
            None,
            None,
            {},
            outcome="rate_limited",
            touched=True,
            now=WALL,
        )
    )
    await ledger.close()
    again = await open_ledger(Boot("boot-b", 3.0, WALL + 60))
    assert again.live.books[ACCOUNT].account.opens == WALL + 3600


async def test_an_account_that_never_made_a_call_waits_for_nothing(
    open_ledger: MakeLedger,
) -> None:
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL)
    await ledger.close()
    windows = {**WINDOWS, "fresh": 61.0}
    again = await open_ledger(Boot("boot-b", 3.0, WALL + 60), windows)
    assert again.live.books["fresh"].account.opens == 0.0


@pytest.mark.parametrize("ago", [0, 29, 40])
async def test_an_account_under_a_new_name_waits_where_the_old_one_made_calls_lately(
    open_ledger: MakeLedger, ago: int
) -> None:
    """It may be the same key. LATER is 30 s after WALL."""
    ledger = await open_ledger()
    await call_that_ended(ledger, WALL - ago)
    await ledger.close()
    again = await open_ledger(LATER, {"renamed": 61.0})
    opens = 0.0 if ago == 40 else WALL + 30 + 61
    assert again.live.books["renamed"].account.opens == opens
    await again.close()
    beside = await open_ledger(LATER, {"renamed": 61.0, "more": 61.0, **WINDOWS})
    assert beside.live.books["more"].account.opens == 0.0


async def test_a_known_account_waits_where_another_left_that_made_calls_lately(
    open_ledger: MakeLedger,
) -> None:
    """It may have been given its key."""
    windows = {**WINDOWS, "other": 61.0}
    ledger = await open_ledger(windows=windows)
    await call_that_ended(ledger, WALL)
    await ledger.close()
    both = await open_ledger(LATER, windows)
    assert both.live.books["other"].account.opens == 0.0
    await both.close()
    again = await open_ledger(LATER, {"other": 61.0})
    account = again.live.books["other"].account
    assert account.opens == account.not_before == WALL + 30 + 61


async def test_jobs_accepted_before_lie_in_the_past_of_the_timeline(
    open_ledger: MakeLedger,
) -> None:
    ledger = await open_ledger()
    await accepted(ledger, accepted=WALL + 500)
    await ledger.close()
    other = Boot("boot-b", 3.0, WALL - DAY)
    assert now(await open_ledger(other), other) >= WALL + 500


async def test_ghosts_keep_their_slots_as_long_as_they_would_have(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    for number, until in enumerate((WALL + 20, WALL + 600)):
        submit = await reserve_submit(ledger, await accepted(ledger, number))
        await ended_unknown(ledger, *submit, until)
    await ledger.commit(forget(inputs=0, prompts=0, rows=WALL + 300, calls=WALL + 300, repeats=0))
    await ledger.close()
    await (await open_ledger(Boot("boot-b", 3.0, WALL + 20))).close()  # another boot in between
    again = await open_ledger(replace(LATER, wall=WALL + 30))
    book = again.live.books[ACCOUNT]
    assert book.slots_taken(WALL + 30) == 1
    assert book.slot_returns(WALL + 30) == WALL + 600
    assert not again.live.jobs
    assert again.live.counts[State.FAILED] == 0  # though the rows of the jobs are gone


@pytest.mark.parametrize("state", [State.SUBMITTING, State.RUNNING, State.FETCHING])
async def test_an_account_with_unfinished_videos_may_not_leave_the_settings(
    open_ledger: MakeLedger, tmp_path: Path, state: State
) -> None:
    ledger = await open_ledger()
    await accepted(ledger, state=state, account=ACCOUNT)
    await ledger.close()
    with pytest.raises(StartError, match="'main' is not in the settings, and still has 1 task "):
        Ledger.open(tmp_path, LATER, {"another": 61.0})


async def test_all_that_an_account_has_upstream_counts(
    open_ledger: MakeLedger, tmp_path: Path
) -> None:
    ledger = await open_ledger(windows={**WINDOWS, "b": 61.0})
    await accepted(ledger, 1, state=State.COMPLETED, account=ACCOUNT, content_lost=True)
    await accepted(ledger, 2, state=State.RUNNING, account=ACCOUNT)
    submit = await reserve_submit(ledger, await accepted(ledger, 3))
    await ended_unknown(ledger, *submit, WALL + 600)
    await accepted(ledger, 4, state=State.FETCHING, account="b")
    await ledger.close()
    with pytest.raises(StartError) as refused:
        Ledger.open(tmp_path, LATER, {"another": 61.0})
    assert str(refused.value) == (
        "account 'b' is not in the settings, and still has 1 task upstream: "
        "put it back until they are done; "
        "account 'main' is not in the settings, and still has 3 tasks upstream: "
        "put it back until they are done"
    )


async def test_an_account_whose_videos_are_all_over_may_leave(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    await accepted(ledger, 1, state=State.COMPLETED, account=ACCOUNT)
    gone = {"content_lost": True, "content_gone": True}
    await accepted(ledger, 2, state=State.COMPLETED, account=ACCOUNT, **gone)
    submit = await reserve_submit(ledger, await accepted(ledger, 3))
    await ended_unknown(ledger, *submit, WALL + 20)
    queued = await accepted(ledger, 4)
    await ledger.close()
    again = await open_ledger(LATER, {"another": 61.0})
    assert again.live.line.first() == queued


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
async def test_a_model_that_is_still_wanted_must_be_served_by_somebody(
    open_ledger: MakeLedger, tmp_path: Path, state: State
) -> None:
    ledger = await open_ledger()
    account = None if state is State.QUEUED else ACCOUNT
    for number in (1, 2):
        await accepted(ledger, number, state=state, account=account, model="sora-1")
    await accepted(ledger, 3)
    await ledger.close()
    with pytest.raises(StartError, match="the model 'sora-1', and 2 videos of it still waiting"):
        Ledger.open(tmp_path, LATER, WINDOWS, {"sora-2"})
    await (await open_ledger(LATER)).close()


async def test_a_model_that_nobody_waits_for_may_leave(
    open_ledger: MakeLedger, tmp_path: Path
) -> None:
    ledger = await open_ledger()
    for number, state in enumerate((State.FETCHING, State.COMPLETED, State.FAILED)):
        await accepted(ledger, number, state=state, account=ACCOUNT, model="sora-1")
    await ledger.close()
    await Ledger.open(tmp_path, LATER, WINDOWS, {"sora-2"}).close()


async def test_keys_are_known_again(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    await ledger.commit(add_key("alice", "key_1", "ab" * 32, WALL))
    key = ledger.key("ab" * 32)
    await ledger.close()
    assert (await open_ledger(LATER)).key("ab" * 32) == key is not None


async def test_every_boot_is_written_down_once(open_ledger: MakeLedger, tmp_path: Path) -> None:
    for boot in (BOOT, LATER, Boot("boot-b", 1.0, WALL + DAY), LATER):
        await (await open_ledger(boot)).close()
    # The folder came back to the first machine: what its clock knew is out of date.
    boots = query(tmp_path, "SELECT id FROM boots ORDER BY number")
    assert boots == [("boot-a#1",), ("boot-b",), ("boot-a",)]


async def test_a_new_ledger_has_nothing_under_way(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    assert (ledger.live.jobs, book.tasks, book.calls, book.ghosts) == ({}, {}, {}, {})
    assert book.slot_returns(0.0) == math.inf


LIKE = a_job(account=ACCOUNT)
"""One that runs where the others did."""


def taught(number: int, seconds: float) -> dict[str, Any]:
    """The fields of a finished video that was looked at twice before its end."""
    moments = (0.4037 * seconds + number % 7 / 10, 0.83 * seconds + number % 11 / 10)
    looks = [Look(at, int(100 * at / seconds)) for at in moments]
    return {
        "looks": (*looks, Look(seconds + 2.0, 100)),
        "finished": WALL + number,
        "account": ACCOUNT,
    }


async def test_what_finished_videos_taught_is_known_again(open_ledger: MakeLedger) -> None:
    """About so: what was learnt one by one is learnt anew from the latest."""
    ledger, random = await open_ledger(), Random(5)
    for number in range(70):
        seconds = 90.0 * math.exp(random.gauss(0.0, 0.15))
        job = await accepted(ledger, number, state=State.RUNNING, account=ACCOUNT)
        fetching = await moved(ledger, job, State.FETCHING, **taught(number, seconds))
        await moved(ledger, fetching, State.COMPLETED)
    before = ledger.live.history.habit(LIKE, 240.0)
    await ledger.close()
    after = (await open_ledger(LATER)).live.history.habit(LIKE, 240.0)
    assert math.exp(before.mean) == pytest.approx(90.0, rel=0.1)
    assert after.mean == pytest.approx(before.mean, abs=0.05)
    assert after.spread == pytest.approx(before.spread, rel=0.4)
    assert after.noise == before.noise
    assert before.noise.normal < 1.0


async def test_the_latest_videos_teach_and_those_that_ended_otherwise_do_not(
    open_ledger: MakeLedger,
) -> None:
    """However many took longer before."""
    ledger = await open_ledger()
    for number in range(REMEMBERED + 30):
        seconds = 600.0 if number < 30 else 60.0
        await accepted(ledger, number, state=State.COMPLETED, **taught(number, seconds))
    for number in range(200, 230):
        await accepted(ledger, number, state=State.FAILED, **taught(number, 600.0))
    await accepted(ledger, 300, state=State.COMPLETED, account=ACCOUNT)  # of an older version
    await ledger.close()
    history = (await open_ledger(LATER)).live.history
    assert math.exp(history.habit(LIKE, 60.0).mean) == pytest.approx(60.0, rel=0.02)
    assert history.habit(replace(LIKE, model="sora-2-pro"), 60.0) == unknown(60.0)
    assert history.habit(replace(LIKE, seconds=15), 60.0) == unknown(60.0)


async def test_each_account_and_upstream_is_known_again(open_ledger: MakeLedger) -> None:
    """However many videos another one has made since."""
    upstreams = {ACCOUNT: "https://slow", "twin": "https://slow", "fast": "https://fast"}
    ledger = await open_ledger(BOOT, dict.fromkeys(upstreams, 61.0), upstreams)
    for number in range(REMEMBERED + 40):
        account, seconds = (ACCOUNT, 600.0) if number < 30 else ("fast", 20.0)
        fields = taught(number, seconds) | {
            "account": account,
            "submitted": WALL + number - seconds,
        }
        await accepted(ledger, number, state=State.COMPLETED, completed_at=WALL, **fields)
    await ledger.close()
    live = (await open_ledger(LATER, dict.fromkeys(upstreams, 61.0), upstreams)).live
    for name, seconds in ((ACCOUNT, 600.0), ("twin", 600.0), ("fast", 20.0)):
        habit = live.history.habit(replace(LIKE, account=name), 60.0)
        assert math.exp(habit.mean) == pytest.approx(seconds, rel=0.2)
        assert live.lately.usual_of_account(name, 60.0).held == pytest.approx(seconds)


async def test_looks_are_known_again(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger()
    looks = (Look(1.5, None), Look(40.25, 0), Look(80.0, 100))
    await accepted(ledger, state=State.RUNNING, account=ACCOUNT, looks=looks)
    await ledger.close()
    job = next(iter((await open_ledger(LATER)).live.books[ACCOUNT].tasks.values()))
    assert job.looks == looks
    assert all(isinstance(look, Look) for look in job.looks)
