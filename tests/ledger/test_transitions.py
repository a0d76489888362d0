"""Every change of the ledger: guarded by the state that it expects, and told once it is made."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from gateway.errors import StateConflict
from gateway.job import TERMINAL, TRANSITIONS, Account, CallEnded, Job, JobMoved, Kind, State
from gateway.ledger.callers import add_key, revoke_keys
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import Change, move, reserve, settle

from .bench import ACCOUNT, CALLER, WALL, a_job, accepted, moved, query, reserve_submit, reserved

PAIRS = [(before, to) for before in State for to in State]
FORBIDDEN = [(before, to) for before, to in PAIRS if to not in TRANSITIONS[before]]
ALLOWED = [(before, to) for before, to in PAIRS if to in TRANSITIONS[before]]


def in_state(state: State, number: int = 0) -> Job:
    """A job in any state, as a row may hold it."""
    account = None if state in (State.QUEUED, State.CANCELLED) else ACCOUNT
    return a_job(number, state=state, account=account)


async def given(ledger: Ledger, state: State) -> Job:
    job = in_state(state)
    return await accepted(ledger, state=job.state, account=job.account)


def the_state(folder: Path) -> str:
    ((state,),) = query(folder, "SELECT state FROM jobs")
    return str(state)


@pytest.mark.parametrize(("before", "to"), FORBIDDEN)
async def test_what_the_table_does_not_allow_is_refused(
    ledger: Ledger, tmp_path: Path, before: State, to: State
) -> None:
    job = await given(ledger, before)
    with pytest.raises(StateConflict):
        await ledger.commit(move(job, to, {}))
    assert the_state(tmp_path) == before
    assert ledger.live.counts[before] == 1


@pytest.mark.parametrize(("before", "to"), ALLOWED)
async def test_what_the_table_allows_is_written_and_told(
    ledger: Ledger, tmp_path: Path, before: State, to: State
) -> None:
    job = await given(ledger, before)
    told: list[object] = []
    ledger.listen(told.append)
    after = await moved(ledger, job, to, progress=7)
    assert after == replace(job, state=to, progress=7)
    assert the_state(tmp_path) == to
    assert ledger.job(job.id) == after
    assert told == [JobMoved(before, after)]


@pytest.mark.parametrize(("expected", "to"), ALLOWED)
async def test_a_row_in_another_state_than_expected_is_left_alone(
    ledger: Ledger, tmp_path: Path, expected: State, to: State
) -> None:
    actual = State.CANCELLED if expected is not State.CANCELLED else State.QUEUED
    await given(ledger, actual)
    with pytest.raises(StateConflict, match=f"is not {expected}"):
        await ledger.commit(move(in_state(expected), to, {}))
    assert the_state(tmp_path) == actual


async def test_of_two_that_want_the_same_job_one_gets_it(ledger: Ledger, tmp_path: Path) -> None:
    job = await accepted(ledger)
    results = await asyncio.gather(
        reserve_submit(ledger, job), moved(ledger, job, State.CANCELLED), return_exceptions=True
    )
    assert [type(each) for each in results] == [tuple, StateConflict]
    assert the_state(tmp_path) == State.SUBMITTING


async def test_a_submit_that_loses_its_job_takes_no_place(ledger: Ledger, tmp_path: Path) -> None:
    job = await accepted(ledger)
    await moved(ledger, job, State.CANCELLED)
    with pytest.raises(StateConflict):
        await reserve_submit(ledger, job)
    assert query(tmp_path, "SELECT count(*) FROM calls") == [(0,)]
    assert not ledger.live.books[ACCOUNT].calls


async def test_a_reserved_submit_takes_its_place_its_job_and_its_slot_at_once(
    ledger: Ledger, tmp_path: Path
) -> None:
    job = await accepted(ledger)
    call, job = await reserve_submit(ledger, job, now=WALL + 5)
    book = ledger.live.books[ACCOUNT]
    assert (job.state, job.account, job.submitted) == (State.SUBMITTING, ACCOUNT, WALL + 5)
    assert book.open_calls() == [call]
    assert book.slots_taken(WALL + 5) == 1
    assert ledger.live.line.first() is None
    assert query(tmp_path, "SELECT reserved, ended FROM calls") == [(WALL + 5, None)]


async def test_polls_and_downloads_leave_their_job_as_it_is(ledger: Ledger) -> None:
    job = await accepted(ledger, state=State.RUNNING, account=ACCOUNT)
    for kind in (Kind.POLL, Kind.DOWNLOAD):
        transition = reserve(kind, job, account=ACCOUNT, boot=ledger.boot, now=WALL, wall=WALL)
        change = await ledger.commit(transition)
        assert (change.jobs, change.calls[0].job_id) == ((), job.id)


def ended(
    call: object, react: object = lambda account: account, job: Job | None = None, **over: object
) -> object:
    """The end of a call."""
    to, changes = over.pop("to", None), over.pop("changes", {})
    values = {"outcome": "observed", "touched": True, "now": WALL + 9} | over
    return settle(call, react, job, to, changes, **values)


def one_more(account: Account) -> Account:
    """What an account may learn."""
    return replace(account, failures=account.failures + 1)


async def test_a_call_that_ended_returns_its_place_a_while_later(ledger: Ledger) -> None:
    call = await reserved(ledger)
    told: list[object] = []
    ledger.listen(told.append)
    change = await ledger.commit(ended(call))
    wanted = replace(call, ended=WALL + 9, outcome="observed")
    assert change.calls == (wanted,)
    assert ledger.live.books[ACCOUNT].calls == {call.id: wanted}
    assert told == [CallEnded(wanted)]


async def test_a_call_that_never_reached_upstream_returns_its_place_at_once(
    ledger: Ledger,
) -> None:
    call = await reserved(ledger)
    await ledger.commit(ended(call, outcome="unsent", touched=False))
    assert ledger.live.books[ACCOUNT].calls == {}


async def test_a_call_ends_once(ledger: Ledger, tmp_path: Path) -> None:
    call = await reserved(ledger)
    await ledger.commit(ended(call))
    with pytest.raises(StateConflict, match="has ended already"):
        await ledger.commit(ended(call, outcome="missing", now=WALL + 99))
    assert query(tmp_path, "SELECT ended, outcome FROM calls") == [(WALL + 9, "observed")]


async def test_calls_that_end_together_lose_nothing_that_the_account_learned(
    ledger: Ledger, tmp_path: Path
) -> None:
    calls = [await reserved(ledger) for _ in range(20)]
    await asyncio.gather(*(ledger.commit(ended(call, one_more)) for call in calls))
    assert ledger.live.books[ACCOUNT].account.failures == 20
    assert query(tmp_path, "SELECT failures FROM accounts") == [(20,)]


async def test_an_account_that_learned_nothing_keeps_its_revision(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.commit(ended(await reserved(ledger), one_more))
    change = await ledger.commit(ended(await reserved(ledger)))
    assert change.accounts == (Account(ACCOUNT, failures=1, revision=1),)
    await ledger.commit(ended(await reserved(ledger), one_more))
    assert query(tmp_path, "SELECT failures, revision FROM accounts") == [(2, 2)]


async def test_the_end_of_a_call_costs_the_same_after_many_others(ledger: Ledger) -> None:
    async def cost() -> int:
        """Steps that SQLite takes."""
        call = await reserved(ledger)
        steps: list[None] = []

        def run(conn: Connection) -> Change:
            file = conn.connection.driver_connection
            file.set_progress_handler(lambda: steps.append(None), 1)
            try:
                return ended(call, one_more)(conn)
            finally:
                file.set_progress_handler(None, 1)

        await ledger.commit(run)
        return len(steps)

    at_first = await cost()
    for call in [await reserved(ledger) for _ in range(50)]:
        await ledger.commit(ended(call))
    assert at_first > 0
    assert await cost() == at_first


async def test_the_end_of_a_call_its_job_and_its_account_are_one_change(
    ledger: Ledger, tmp_path: Path
) -> None:
    call, job = await reserve_submit(ledger, await accepted(ledger))

    def worse(account: Account) -> Account:
        return replace(account, failures=1)

    with pytest.raises(StateConflict):  # nothing leads there
        await ledger.commit(ended(call, worse, job, to=State.COMPLETED))
    assert query(tmp_path, "SELECT ended FROM calls") == [(None,)]
    assert query(tmp_path, "SELECT failures FROM accounts") == [(0,)]

    told: list[object] = []
    ledger.listen(told.append)
    change = await ledger.commit(
        ended(call, worse, job, to=State.RUNNING, changes={"upstream_id": "up_1"})
    )
    running = replace(job, state=State.RUNNING, upstream_id="up_1")
    assert change.jobs == (running,)
    assert told == [CallEnded(change.calls[0]), JobMoved(State.SUBMITTING, running)]
    assert query(tmp_path, "SELECT failures FROM accounts") == [(1,)]


async def test_a_poll_that_moves_nothing_tells_of_the_call_alone(ledger: Ledger) -> None:
    job = await accepted(ledger, state=State.RUNNING, account=ACCOUNT)
    call = await reserved(ledger, Kind.POLL, job)
    change = await ledger.commit(
        ended(call, job=job, to=State.RUNNING, changes={"polled": WALL + 9, "progress": 40})
    )
    assert ledger.live.jobs[job.id].progress == 40
    assert [type(event) for event in change.events] == [CallEnded]


async def test_one_upstream_id_is_never_two_jobs(ledger: Ledger, tmp_path: Path) -> None:
    jobs = [await accepted(ledger, n, state=State.SUBMITTING, account=ACCOUNT) for n in (1, 2)]
    results = await asyncio.gather(
        *(moved(ledger, job, State.RUNNING, upstream_id="up_1") for job in jobs),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [Job, StateConflict]
    assert query(tmp_path, "SELECT state FROM jobs") == [("running",), ("submitting",)]


async def test_what_happened_stands_in_the_outbox_of_the_same_transaction(
    ledger: Ledger, tmp_path: Path
) -> None:
    call, job = await reserve_submit(ledger, await accepted(ledger))
    with pytest.raises(StateConflict):
        await ledger.commit(move(job, State.COMPLETED, {}))
    await ledger.commit(ended(call, job=job, to=State.FAILED))
    await ledger.commit(add_key("bob", "key_1", "ab" * 32, WALL))
    await ledger.commit(revoke_keys("bob", WALL))
    rows = query(tmp_path, "SELECT type, subject FROM outbox ORDER BY id")
    assert rows == [
        ("job.queued", job.id),
        ("job.submitting", job.id),
        ("job.failed", job.id),
        ("key.created", "key_1"),
        ("key.revoked", "key_1"),
    ]


@pytest.mark.parametrize("state", sorted(TERMINAL))
async def test_a_job_that_is_over_is_read_from_the_file(ledger: Ledger, state: State) -> None:
    job = await given(ledger, state)
    assert job.id not in ledger.live.jobs
    assert ledger.job(job.id) == job
    assert ledger.job("video_unknown") is None


async def test_a_job_comes_back_from_the_file_as_it_went_in(ledger: Ledger) -> None:
    fields = {
        "model": "m", "size": "1x1", "seconds": 7, "prompt": "Ünï — 🎬", "created_at": 1.5,
        "accepted": 2.5, "input_sha256": "ab" * 32, "input_type": "image/png",
        "account": ACCOUNT, "upstream_id": "up", "in_progress": True, "progress": 12,
        "submitted": 3.5, "polled": 4.5, "finished": 5.5, "misses": 2, "retry": 6.5,
        "requeues": 2, "resends": 1, "replaces": "video_7", "replaced_by": "video_8",
        "completed_at": 8.5, "content_sha256": "cd" * 32,
        "content_bytes": 2**40, "error_code": "c", "error_message": "m",
    }  # fmt: skip
    job = await accepted(ledger, state=State.FAILED, **fields)
    assert job.seq > 0
    assert ledger.job(job.id) == job
    assert job == a_job(state=State.FAILED, seq=job.seq, **fields)
    assert job.caller == CALLER
