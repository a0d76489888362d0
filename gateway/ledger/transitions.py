"""Every change of the ledger, each one transaction, each guarded by the state that it expects.

A transition is called with its values and gives back the work to be handed to `Ledger.commit`. It
returns the rows as they now stand; nobody sees them before the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec

import orjson
from sqlalchemy import Connection, Table, delete, func, insert, select, update

from gateway.errors import QueueFull, Refused, RepeatConflict, StateConflict
from gateway.job import (
    TERMINAL,
    TRANSITIONS,
    Account,
    AccountChanged,
    Call,
    CallEnded,
    Event,
    Job,
    JobChanged,
    JobMoved,
    Key,
    Kind,
    Look,
    State,
)
from gateway.ledger import schema, statements

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction wrote: the rows as they now stand, and what happened."""

    jobs: tuple[Job, ...] = ()
    calls: tuple[Call, ...] = ()
    accounts: tuple[Account, ...] = ()
    keys: tuple[Key, ...] = ()
    events: tuple[Event, ...] = ()
    found: Job | None = None
    """The job that was there already, where a request turned out to be a repeated one."""


Transition = Callable[[Connection], Change]


def transition(write: Callable[Concatenate[Connection, P], Change]) -> Callable[P, Transition]:
    """Let a writing function be called with its values first and with its connection later."""

    def bind(*args: P.args, **kwargs: P.kwargs) -> Transition:
        return lambda conn: write(conn, *args, **kwargs)

    return bind


def read_job(row: Any) -> Job:
    """The job that a row of `jobs` is."""
    values = dict(row)
    values["state"] = State(values["state"])
    values["looks"] = tuple(Look(*look) for look in orjson.loads(values["looks"]))
    for name in ("in_progress", "content_lost", "content_gone"):
        values[name] = bool(values[name])
    return Job(**values)


def read_account(row: Any) -> Account:
    """The account that a row of `accounts` is."""
    values = dict(row)
    values["paused"] = bool(values["paused"])
    return Account(**values)


def _row(table: Table, value: Job | Account) -> dict[str, Any]:
    """The row of `table` that a value is."""
    return {column.name: getattr(value, column.name) for column in table.columns}


@dataclass(frozen=True, slots=True)
class Repeat:
    """What tells that a request may be the same one again.

    `key`: the SHA-256 of its Idempotency-Key; `count`: which retry of an SDK's it is, 0 for none.
    """

    key: str | None = None
    count: int = 0


KEY_SECONDS = 86_400.0
"""How long an Idempotency-Key is kept."""

RETRY_SECONDS = 600.0
"""How long after a request an SDK's retry of it is taken for the same."""


@transition
def accept(
    conn: Connection, job: Job, repeat: Repeat | None = None, *, full: bool = False
) -> Change:
    """A caller's job enters the queue, unless it is there already: then `found` is that job.

    `full`: its caller may add nothing new. Raises QueueFull then, and RepeatConflict when its
    Idempotency-Key came with another request before.
    """
    repeat = repeat or Repeat()
    if (found := _repeated(conn, job, repeat)) is not None:
        return Change(found=found)
    if full:
        raise QueueFull("as many videos wait as may")
    job = add_job(conn, job)
    if repeat.key is not None:
        row = {"caller": job.caller, "key": repeat.key, "accepted": job.accepted}
        row |= {"fingerprint": job.fingerprint, "job_id": job.id}
        conn.execute(insert(schema.repeats).values(row))
    return Change(jobs=(job,), events=(JobMoved(None, job),))


def add_job(conn: Connection, job: Job) -> Job:
    """A new job, at the end of the line."""
    values = _row(schema.jobs, job)
    del values["seq"]
    seq = conn.execute(statements.ADD_JOB, values).inserted_primary_key
    return replace(job, seq=seq[0] if seq else 0)


def _repeated(conn: Connection, job: Job, repeat: Repeat) -> Job | None:
    """The job that this request has made before."""
    jobs, repeats = schema.jobs, schema.repeats
    if repeat.key is not None:
        mine = (repeats.c.caller == job.caller) & (repeats.c.key == repeat.key)
        conn.execute(delete(repeats).where(mine, repeats.c.accepted < job.accepted - KEY_SECONDS))
        row = conn.execute(select(repeats).where(mine)).first()
        if row is None:
            return None
        if row.fingerprint != job.fingerprint:
            raise RepeatConflict("the same Idempotency-Key came with another request")
        found = conn.execute(select(jobs).where(jobs.c.id == row.job_id)).mappings().first()
        return None if found is None else read_job(found)
    if not repeat.count:
        return None
    same = (
        (jobs.c.caller == job.caller)
        & (jobs.c.fingerprint == job.fingerprint)
        & (jobs.c.accepted >= job.accepted - RETRY_SECONDS)
        & (jobs.c.repeats < repeat.count)  # two equal jobs, each retried, stay two
        & jobs.c.deleted_at.is_(None)
    )
    oldest = select(jobs.c.seq).where(same).order_by(jobs.c.seq).limit(1).scalar_subquery()
    claimed = update(jobs).where(jobs.c.seq == oldest).values(repeats=repeat.count)
    found = conn.execute(claimed.returning(jobs)).mappings().first()
    return None if found is None else read_job(found)


@transition
def reserve(
    conn: Connection,
    kind: Kind,
    job: Job | None,
    *,
    account: str,
    boot: int,
    now: float,
    wall: float,
) -> Change:
    """Take a place in the window for a call that comes next; a submit takes its job and its slot
    along.
    """
    values = {
        "account": account,
        "kind": kind,
        "job_id": job.id if job else None,
        "boot": boot,
        "reserved_at": wall,
        "reserved": now,
        "touched": True,
    }
    key = conn.execute(statements.ADD_CALL, values).inserted_primary_key
    call = Call(key[0] if key else 0, account, kind, job.id if job else None, now)
    if job is None or kind is not Kind.SUBMIT:
        return Change(calls=(call,))
    moved = _move(conn, job, State.SUBMITTING, {"account": account, "submitted": now})
    return Change(jobs=(moved,), calls=(call,), events=(JobMoved(job.state, moved),))


@transition
def settle(
    conn: Connection,
    call: Call,
    react: Callable[[Account], Account],
    job: Job | None,
    to: State | None,
    changes: Mapping[str, Any],
    *,
    outcome: str,
    touched: bool,
    now: float,
    slot_until: float | None = None,
) -> Change:
    """A call has ended: its place begins to return, its job moves on, its account has learned.

    `react` is given the account as it stands in this transaction: calls that end together must not
    undo what the other one learned. `slot_until`: the call keeps a slot until then.
    """
    end: dict[str, Any] = {"ended": now, "outcome": outcome, "touched": touched}
    end["slot_until"] = slot_until
    ended = replace(call, **end)
    task = {"upstream_id": changes.get("upstream_id")}  # unique: it is never another job's again
    result = conn.execute(statements.END_CALL, end | task | {"this_id": call.id})
    if result.rowcount != 1:
        raise StateConflict(f"call {call.id} has ended already")
    before, account = _learn(conn, call.account, react)
    events: tuple[Event, ...] = (CallEnded(ended),)
    if (account.trouble, account.doubt) != (before.trouble, before.doubt):
        events += (AccountChanged(before, account),)
    if job is None:
        return Change(calls=(ended,), accounts=(account,), events=events)
    if to is None:  # its state stays, as when lost content is fetched again
        changed = _update(conn, job, changes)
        return Change(jobs=(changed,), calls=(ended,), accounts=(account,), events=events)
    moved = _move(conn, job, *_unless_deleted(conn, job, to, changes, ended))
    if moved.state is not job.state:
        events += (JobMoved(job.state, moved),)
    return Change(jobs=(moved,), calls=(ended,), accounts=(account,), events=events)


def _learn(
    conn: Connection, name: str, react: Callable[[Account], Account]
) -> tuple[Account, Account]:
    """An account before and after `react`. One that has learned nothing is not written."""
    row = conn.execute(statements.FIND_ACCOUNT, {"this_name": name}).mappings().one()
    before = read_account(row)
    after = react(before)
    if after != before:
        after = write_account(conn, after)
    return before, after


def write_account(conn: Connection, account: Account) -> Account:
    """An account that has changed, with its next revision.

    Its name stays out of the UPDATE: SQLite would look at each job and each call that bears it.
    """
    account = replace(account, revision=account.revision + 1)
    values = _row(schema.accounts, account)
    values["this_name"] = values.pop("name")
    conn.execute(statements.CHANGE_ACCOUNT, values)
    return account


def _unless_deleted(
    conn: Connection, job: Job, to: State, changes: Mapping[str, Any], call: Call
) -> tuple[State, Mapping[str, Any]]:
    """Where a job goes that its caller may have deleted while its call was under way."""
    if to not in (State.QUEUED, State.FETCHING):
        return to, changes
    if conn.execute(statements.DELETED_AT, {"this_id": job.id}).scalar() is None:
        return to, changes
    if to is State.QUEUED and call.kind is Kind.SUBMIT and call.slot_until is None:
        return State.CANCELLED, changes
    return State.FAILED, DELETED


DELETED = {"error_code": "deleted", "error_message": "Its caller deleted it."}


@transition
def delete_job(conn: Connection, job: Job, wall: float) -> Change:
    """Its caller no longer sees it. A task upstream goes on: it is paid for, and keeps its slot."""
    gone = {"deleted_at": wall}
    match job.state:
        case State.QUEUED:
            return _moved(job, _move(conn, job, State.CANCELLED, gone))
        case State.FETCHING:
            return _moved(job, _move(conn, job, State.FAILED, gone | DELETED))
        case _:
            return Change(jobs=(_update(conn, job, gone),))


def _moved(before: Job, after: Job) -> Change:
    return Change(jobs=(after,), events=(JobMoved(before.state, after),))


@transition
def purge(conn: Connection, caller: str, wall: float) -> Change:
    """Delete all jobs of the caller called so, and their prompts with them."""
    jobs, callers = schema.jobs, schema.callers
    his = conn.execute(select(callers.c.id).where(callers.c.name == caller)).scalar()
    if his is None:
        raise Refused(f"there is no caller {caller!r}")
    rows = conn.execute(select(jobs).where(jobs.c.caller == his)).mappings().all()
    changed: list[Job] = []
    events: list[Event] = []
    for job in map(read_job, rows):
        if job.deleted_at is not None and not job.prompt:
            continue
        after = job
        if job.deleted_at is None:
            change = delete_job(job, wall)(conn)
            (after,) = change.jobs
            events += change.events
        after = _update(conn, after, {"prompt": ""})
        changed.append(after)
        events.append(JobChanged(after))
    return Change(jobs=tuple(changed), events=tuple(events))


@transition
def forget(
    conn: Connection, *, inputs: float, prompts: float, rows: float, calls: float, repeats: float
) -> Change:
    """Drop what is older than these moments: the claim to an image, prompts and rows of jobs that
    are over, and traces.
    """
    jobs = schema.jobs
    over = jobs.c.state.in_([state.value for state in TERMINAL])
    sent = func.coalesce(jobs.c.submitted, jobs.c.accepted)
    old_input = over & (sent < inputs) & jobs.c.input_sha256.is_not(None)
    conn.execute(update(jobs).where(old_input).values(input_sha256=None))
    old_prompt = over & (jobs.c.accepted < prompts) & (jobs.c.prompt != "")
    conn.execute(update(jobs).where(old_prompt).values(prompt=""))
    kept = (jobs.c.state == State.COMPLETED) & ~jobs.c.content_gone
    conn.execute(delete(jobs).where(over & ~kept & (jobs.c.accepted < rows)))
    last = func.coalesce(schema.calls.c.slot_until, schema.calls.c.ended)
    conn.execute(delete(schema.calls).where(schema.calls.c.ended.is_not(None), last < calls))
    conn.execute(delete(schema.repeats).where(schema.repeats.c.accepted < repeats))
    return Change()


@transition
def forget_events(conn: Connection, before_at: float, seen: int) -> Change:
    """Drop lines of the outbox up to `seen` that are older than `before_at` (Unix seconds).

    One that was not seen yet stays, whatever the clock of the process that wrote it said.
    """
    old = (schema.outbox.c.at < before_at) & (schema.outbox.c.id <= seen)
    conn.execute(delete(schema.outbox).where(old))
    return Change()


@transition
def note(conn: Connection, job: Job, changes: Mapping[str, Any]) -> Change:
    """Columns that are no state: that the content was fetched, lost, brought back, or is gone."""
    return Change(jobs=(_update(conn, job, changes),))


@transition
def move(conn: Connection, job: Job, to: State, changes: Mapping[str, Any]) -> Change:
    """A job moves on without a call, as at a restart."""
    return _moved(job, _move(conn, job, to, changes))


def _move(conn: Connection, job: Job, to: State, changes: Mapping[str, Any]) -> Job:
    if to not in TRANSITIONS[job.state]:
        raise StateConflict(f"{job.id}: nothing leads from {job.state} to {to}")
    return _update(conn, job, {**changes, "state": to})


def _update(conn: Connection, job: Job, changes: Mapping[str, Any]) -> Job:
    """Change a row that is in the state that `job` is in; the job as it now stands."""
    values = {**changes, "this_id": job.id, "this_state": job.state}
    row = conn.execute(statements.CHANGE_JOB, values).mappings().first()
    if row is None:
        raise StateConflict(f"{job.id} is not {job.state}")
    return read_job(row)
