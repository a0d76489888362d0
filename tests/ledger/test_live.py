"""What is under way, in memory: a picture of what is committed."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.job import Call, JobMoved, Kind, State
from gateway.ledger.ledger import Ledger, commit_beside
from gateway.ledger.live import Live
from gateway.ledger.operator import pause_account
from gateway.ledger.transitions import Change, purge, settle

from .bench import ACCOUNT, WALL, a_job, accepted, ended_unknown, moved, reserve_submit, reserved
from .conftest import MakeLedger

MODELS = {"sora-2"}


async def test_the_queue_is_in_the_order_of_acceptance(ledger: Ledger) -> None:
    jobs = [await accepted(ledger, number) for number in (3, 1, 2)]
    for job in jobs:
        assert ledger.live.line.first() == job
        await moved(ledger, job, State.CANCELLED)
    assert ledger.live.line.first() is None


async def test_a_job_refused_upstream_goes_back_to_its_own_place_in_line(ledger: Ledger) -> None:
    first, second = [await accepted(ledger, number) for number in (1, 2)]
    _, submitting = await reserve_submit(ledger, first)
    assert ledger.live.line.first() == second
    await moved(ledger, submitting, State.QUEUED, account=None, submitted=None)
    assert ledger.live.line.first() == first


async def test_states_are_counted(ledger: Ledger) -> None:
    jobs = [await accepted(ledger, number) for number in range(4)]
    await moved(ledger, jobs[0], State.CANCELLED)
    await reserve_submit(ledger, jobs[1])
    counts = {state: count for state, count in ledger.live.counts.items() if count}
    assert counts == {State.QUEUED: 2, State.SUBMITTING: 1, State.CANCELLED: 1}


def test_a_job_that_was_deleted_before_it_was_shown_is_counted() -> None:
    """By another process, between our commit and what it showed us."""
    live = Live({})
    job = a_job()
    live.apply(Change(jobs=(replace(job, state=State.CANCELLED),), events=(JobMoved(None, job),)))
    assert live.counts[State.CANCELLED] == 1


async def test_a_slot_is_taken_from_the_reserved_submit_to_upstreams_last_word(
    ledger: Ledger,
) -> None:
    book = ledger.live.books[ACCOUNT]
    _, job = await reserve_submit(ledger, await accepted(ledger))
    assert book.slots_taken(WALL) == 1
    job = await moved(ledger, job, State.RUNNING, upstream_id="up_1")
    assert book.slots_taken(WALL) == 1
    job = await moved(ledger, job, State.FETCHING)
    assert book.slots_taken(WALL) == 0
    assert list(book.tasks) == [job.id]
    await moved(ledger, job, State.COMPLETED)
    assert not book.tasks


async def test_a_ghost_keeps_its_slot_for_its_time(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    call, job = await reserve_submit(ledger, await accepted(ledger))
    await ended_unknown(ledger, call, job, WALL + 600)
    assert book.slots_taken(WALL + 599) == 1
    assert book.slot_returns(WALL + 599) == WALL + 600
    assert book.slots_taken(WALL + 600) == 0
    assert book.slot_returns(WALL + 600) == math.inf
    book.forget(WALL + 600, 61.0)
    assert not book.ghosts


async def ended(ledger: Ledger, call: Call, now: float, outcome: str = "missing") -> None:
    """A call that has ended, and told nothing of any job."""
    ends: dict[str, Any] = {"outcome": outcome, "touched": True, "now": now}
    await ledger.commit(settle(call, lambda account: account, None, None, {}, **ends))


async def test_calls_are_forgotten_only_once_their_places_have_returned(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    calls = [await reserved(ledger) for _ in range(3)]
    for call, at in zip(calls, (10.0, 20.0), strict=False):
        await ended(ledger, call, WALL + at)
    book.forget(WALL + 71.0, 61.0)  # the first returns at this very moment
    assert set(book.calls) == {call.id for call in calls}
    book.forget(WALL + 71.1, 61.0)
    assert set(book.calls) == {call.id for call in calls[1:]}
    book.forget(WALL + 9e9, 61.0)
    assert set(book.calls) == {calls[2].id}  # it has not ended


async def test_a_task_is_idle_while_none_of_its_calls_is_under_way(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    jobs = [
        await accepted(ledger, number, state=State.RUNNING, account=ACCOUNT) for number in (1, 2)
    ]
    assert not book.is_making(Kind.POLL)
    await reserved(ledger, Kind.POLL, jobs[0])
    assert [job.id for job in ledger.live.idle(book)] == [jobs[1].id]
    assert book.is_making(Kind.POLL)


async def test_a_download_in_vain_is_told_from_others(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    fetching = {"state": State.FETCHING, "account": ACCOUNT, "finished": WALL}
    first, failed = [
        await accepted(ledger, number, retry=retry, **fetching)
        for number, retry in enumerate((0.0, WALL + 60.0))
    ]
    for job, kind, outcome, under_way, over in (
        (None, Kind.POLL, "observed", False, False),
        (first, Kind.DOWNLOAD, "fetched", False, False),
        (first, Kind.DOWNLOAD, "rate_limited", False, True),
        (failed, Kind.DOWNLOAD, "fetched", True, False),
        (failed, Kind.DOWNLOAD, "absent", True, True),
    ):
        call = await reserved(ledger, kind, job)
        assert ledger.live.fetched_in_vain(book) is under_way
        await ended(ledger, call, WALL + 1.0, outcome)
        book.forget(WALL + 100.0, 61.0)  # its place has returned
        assert ledger.live.fetched_in_vain(book) is over


async def test_a_download_that_ends_late_is_not_the_latest_call(ledger: Ledger) -> None:
    book = ledger.live.books[ACCOUNT]
    job = await accepted(ledger, state=State.FETCHING, account=ACCOUNT, finished=WALL)
    download = await reserved(ledger, Kind.DOWNLOAD, job)
    await reserved(ledger, Kind.POLL)
    await ended(ledger, download, WALL + 1.0, "absent")
    assert not ledger.live.fetched_in_vain(book)


async def test_a_submit_under_way_is_no_look_at_upstream(ledger: Ledger) -> None:
    await reserve_submit(ledger, await accepted(ledger))
    assert not ledger.live.books[ACCOUNT].is_making(Kind.POLL)


@pytest.mark.parametrize(
    ("last", "needed"),
    [
        ({"to": State.COMPLETED}, False),
        ({"to": State.FAILED, "error_code": "content_policy_violation"}, False),
        ({"to": State.FAILED, "error_code": "submission_outcome_unknown"}, True),
        ({"to": State.FAILED, "error_code": "overloaded", "requeues": 3}, True),
        ({"to": State.FAILED, "error_code": "content_expired", "deleted_at": WALL}, False),
    ],
)
async def test_an_input_image_is_needed_until_the_last_of_its_jobs_can_be_sent_no_more(
    ledger: Ledger, last: dict[str, Any], needed: bool
) -> None:
    image = {"input_sha256": "ab" * 32, "input_type": "image/png"}
    jobs = [await accepted(ledger, number, **image) for number in (1, 2)]
    for job in jobs:
        _, submitting = await reserve_submit(ledger, job)
        running = await moved(ledger, submitting, State.RUNNING, upstream_id=f"up_{job.id}")
        fetching = await moved(ledger, running, State.FETCHING)
        assert ledger.needs_input("ab" * 32)
        await moved(ledger, fetching, **last)
    assert ledger.needs_input("ab" * 32) == needed
    assert not ledger.needs_input("cd" * 32)


async def test_one_that_came_back_waits_in_its_place_and_holds_up_nobody(ledger: Ledger) -> None:
    first, second = [await accepted(ledger, number) for number in (1, 2)]
    _, job = await reserve_submit(ledger, first)
    job = await moved(ledger, job, State.RUNNING, upstream_id="up_1")
    back = await moved(ledger, job, State.QUEUED, account=None, retry=WALL + 30)
    live = ledger.live
    assert (live.line.head(MODELS, WALL), live.line.position(back)) == (second, 1)
    await moved(ledger, second, State.CANCELLED)
    assert (live.line.head(MODELS, WALL), live.line.next_due(MODELS)) == (None, WALL + 30)
    assert live.line.head(MODELS, WALL + 30) == back
    await moved(ledger, back, State.CANCELLED)
    assert (live.line.first(), live.line.next_due(MODELS)) == (None, math.inf)


async def test_of_two_pictures_of_an_account_the_newer_one_counts(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A change of our own may be published only after another process's was read."""
    call = await reserved(ledger)
    book = ledger.live.books[ACCOUNT]
    change = await ledger.commit(
        settle(call, lambda a: a, None, None, {}, outcome="missing", touched=True, now=WALL)
    )
    commit_beside(tmp_path, pause_account(ACCOUNT, True), WALL)
    ledger.catch_up()
    assert book.account.paused
    ledger.live.apply(change)
    assert book.account.paused


async def test_overdue_is_longer_than_max_wait(ledger: Ledger) -> None:
    job = await accepted(ledger, state=State.RUNNING, account=ACCOUNT, submitted=WALL)
    book = ledger.live.books[ACCOUNT]
    assert book.overdue(WALL + 600, 600) == 0
    assert book.overdue(WALL + 601, 600) == 1
    assert ledger.live.jobs[job.id] == replace(job)


async def test_videos_of_all_accounts_may_need_room(open_ledger: MakeLedger) -> None:
    ledger = await open_ledger(windows={"one": 61.0, "two": 61.0})
    for number, account in enumerate(("one", "two", "two")):
        await accepted(ledger, number, state=State.RUNNING, account=account)
    await accepted(ledger, 3)
    assert ledger.live.unfinished() == 3


async def test_what_another_process_wrote_since_outlasts_a_commit_of_ours_that_is_shown_late(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await accepted(ledger)
    writer = ledger._writer
    assert writer is not None
    hand_back = writer._hand_back

    def meanwhile(group: list[Any]) -> None:
        monkeypatch.undo()
        commit_beside(tmp_path, purge("alice", WALL), WALL)
        ledger.catch_up()
        hand_back(group)

    monkeypatch.setattr(writer, "_hand_back", meanwhile)
    await reserve_submit(ledger, job)
    assert ledger.live.jobs[job.id].deleted_at == WALL
    counted = {state: number for state, number in ledger.live.counts.items() if number}
    assert counted == {State.SUBMITTING: 1}
