"""Every change of the ledger, each one transaction, each guarded by the state that it expects.

A transition is called with its values and gives back the work to be handed to `Ledger.commit`. It
returns the rows as they now stand; nobody sees them before the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Concatenate, ParamSpec

from sqlalchemy import Connection, insert, select, update

from gateway.errors import StateConflict
from gateway.job import (
    TRANSITIONS,
    Account,
    Call,
    CallEnded,
    Caller,
    Event,
    Job,
    JobMoved,
    Key,
    Kind,
    State,
)
from gateway.ledger import schema

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction wrote: the rows as they now stand, and what happened."""

    jobs: tuple[Job, ...] = ()
    calls: tuple[Call, ...] = ()
    accounts: tuple[Account, ...] = ()
    keys: tuple[Key, ...] = ()
    events: tuple[Event, ...] = ()


Transition = Callable[[Connection], Change]


def transition(write: Callable[Concatenate[Connection, P], Change]) -> Callable[P, Transition]:
    """Let a writing function be called with its values first and with its connection later."""

    def bind(*args: P.args, **kwargs: P.kwargs) -> Transition:
        return lambda conn: write(conn, *args, **kwargs)

    return bind


def read_job(row: Any) -> Job:
    """The job that a row of `jobs` is."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - sqlite3.Row is no mapping
    values["state"] = State(values["state"])
    values["in_progress"] = bool(values["in_progress"])
    return Job(**values)


@transition
def accept(conn: Connection, job: Job) -> Change:
    """A caller's job enters the queue."""
    values = asdict(job)
    del values["seq"]
    seq = conn.execute(insert(schema.jobs).values(values)).inserted_primary_key
    job = replace(job, seq=seq[0] if seq else 0)
    return Change(jobs=(job,), events=(JobMoved(None, job),))


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
    key = conn.execute(insert(schema.calls).values(values)).inserted_primary_key
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
) -> Change:
    """A call has ended: its place begins to return, its job moves on, its account has learned.

    `react` is given the account as it stands in this transaction: calls that end together must not
    undo what the other one learned.
    """
    ended = replace(call, ended=now, outcome=outcome, touched=touched)
    result = conn.execute(
        update(schema.calls)
        .where(schema.calls.c.id == call.id, schema.calls.c.ended.is_(None))
        .values(ended=now, outcome=outcome, touched=touched)
    )
    if result.rowcount != 1:
        raise StateConflict(f"call {call.id} has ended already")
    named = schema.accounts.c.name == call.account
    row = conn.execute(select(schema.accounts).where(named)).mappings().one()
    account = react(Account(**row))
    conn.execute(update(schema.accounts).where(named).values(asdict(account)))
    events: tuple[Event, ...] = (CallEnded(ended),)
    if job is None or to is None:
        return Change(calls=(ended,), accounts=(account,), events=events)
    moved = _move(conn, job, to, changes)
    if moved.state is not job.state:
        events += (JobMoved(job.state, moved),)
    return Change(jobs=(moved,), calls=(ended,), accounts=(account,), events=events)


@transition
def move(conn: Connection, job: Job, to: State, changes: Mapping[str, Any]) -> Change:
    """A job moves on without a call, as at a restart."""
    moved = _move(conn, job, to, changes)
    return Change(jobs=(moved,), events=(JobMoved(job.state, moved),))


@transition
def add_key(conn: Connection, name: str, key_id: str, digest: str, wall: float) -> Change:
    """A new key for the caller called `name`, who is made if nobody bears that name."""
    caller = _caller(conn, name, wall)
    values = {"id": key_id, "caller": caller.id, "digest": digest, "created_at": wall}
    conn.execute(insert(schema.keys).values(values))
    return Change(keys=(Key(key_id, caller, digest, wall),))


@transition
def revoke_keys(conn: Connection, name_or_id: str, wall: float) -> Change:
    """Revoke one key by its id, or all keys of the caller called so. An empty change: nothing
    matched.
    """
    named = (schema.callers.c.name == name_or_id) | (schema.keys.c.id == name_or_id)
    rows = conn.execute(_KEYS.where(named, schema.keys.c.revoked_at.is_(None))).mappings().all()
    revoked = tuple(replace(read_key(row), revoked_at=wall) for row in rows)
    for key in revoked:
        where = schema.keys.c.id == key.id
        conn.execute(update(schema.keys).where(where).values(revoked_at=wall))
    return Change(keys=revoked)


@transition
def add_caller(conn: Connection, name: str, wall: float) -> Change:
    """Make sure that a caller of this name is there (the one of `open` mode)."""
    _caller(conn, name, wall)
    return Change()


_KEYS = select(
    schema.keys.c.id,
    schema.keys.c.caller,
    schema.callers.c.name,
    schema.keys.c.digest,
    schema.keys.c.created_at,
    schema.keys.c.revoked_at,
).join_from(schema.keys, schema.callers)


def read_key(row: Any) -> Key:
    """The key that a row of `keys` joined to its caller is."""
    caller = Caller(row["caller"], row["name"])
    return Key(row["id"], caller, row["digest"], row["created_at"], row["revoked_at"])


def _caller(conn: Connection, name: str, wall: float) -> Caller:
    row = conn.execute(select(schema.callers.c.id).where(schema.callers.c.name == name)).first()
    if row is not None:
        return Caller(row.id, name)
    # The id is the name's own: two processes that make the same caller at once make one.
    caller = Caller(f"caller_{name}", name)
    conn.execute(insert(schema.callers).values(id=caller.id, name=name, created_at=wall))
    return caller


def _move(conn: Connection, job: Job, to: State, changes: Mapping[str, Any]) -> Job:
    if to not in TRANSITIONS[job.state]:
        raise StateConflict(f"{job.id}: nothing leads from {job.state} to {to}")
    result = conn.execute(
        update(schema.jobs)
        .where(schema.jobs.c.id == job.id, schema.jobs.c.state == job.state)
        .values(state=to, **changes)
    )
    if result.rowcount != 1:
        raise StateConflict(f"{job.id} is not {job.state}")
    return replace(job, state=to, **changes)
