"""What a starting server reads from the ledger: which boot this is, and what is under way."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, String, cast, func, insert, select, union_all, update

from gateway.clock import Boot
from gateway.errors import StartError
from gateway.job import TERMINAL, Account, Call, Job, Kind, State
from gateway.ledger.lately import REMEMBERED
from gateway.ledger.live import Live
from gateway.ledger.schema import accounts, boots, calls, jobs
from gateway.ledger.transitions import Change, read_account, read_job, transition

LOOKED_THROUGH = 5000
"""Completed videos among which a start looks for what it learns from."""


def begin_boot(conn: Connection, boot: Boot, windows: Mapping[str, float]) -> tuple[int, float]:
    """This boot's number in the ledger and its offset; accounts new to the ledger are written down.

    After another boot nothing is known of how long ago the last calls were, so each account that
    has made any waits for `windows[name]` seconds (period + guard) first.
    """
    _add_accounts(conn, boot, windows)
    newest = conn.execute(select(boots).order_by(boots.c.number.desc()).limit(1)).first()
    if newest is not None and newest.id == boot.id:
        return newest.number, newest.offset
    # A folder may come back to a machine that served it before: that boot's number is over.
    retired = boots.c.id + "#" + cast(boots.c.number, String)
    conn.execute(update(boots).where(boots.c.id == boot.id).values(id=retired))
    start = _beginning(conn, boot)
    values = {"id": boot.id, "offset": start - boot.seconds, "started_at": boot.wall}
    values["seen"] = start
    conn.execute(insert(boots).values(values))
    number = conn.execute(select(boots.c.number).where(boots.c.id == boot.id)).scalar_one()
    for name in conn.execute(select(calls.c.account).distinct()).scalars():
        not_before = start + windows.get(name, 0.0)
        opens = func.max(accounts.c.opens, not_before)
        values = {"opens": opens, "not_before": not_before}
        conn.execute(update(accounts).where(accounts.c.name == name).values(values))
    return number, start - boot.seconds


def _add_accounts(conn: Connection, boot: Boot, windows: Mapping[str, float]) -> None:
    """Write down the accounts that are new to the ledger. Where one that has left the settings made
    calls lately, all wait for their windows first: any may have got its key.
    """
    known = set(conn.execute(select(accounts.c.name)).scalars())
    now = moment(conn, boot)
    gone = calls.c.account.not_in(windows) & calls.c.touched
    latest = conn.execute(select(func.max(func.coalesce(calls.c.ended, now))).where(gone)).scalar()
    for name, window in windows.items():
        if name not in known:
            conn.execute(insert(accounts).values(asdict(Account(name))))
        if latest is not None and latest > now - window:
            opens = func.max(accounts.c.opens, now + window)
            values = {"opens": opens, "not_before": now + window}
            conn.execute(update(accounts).where(accounts.c.name == name).values(values))


@transition
def seen(conn: Connection, boot: int, now: float) -> Change:
    """The timeline has come to `now`: another boot goes on from there."""
    conn.execute(update(boots).where(boots.c.number == boot).values(seen=now))
    return Change()


def moment(conn: Connection, boot: Boot) -> float:
    """The moment on the ledger's timeline at which `boot` was read, by a process that serves
    nothing.
    """
    newest = conn.execute(select(boots).order_by(boots.c.number.desc()).limit(1)).first()
    if newest is not None and newest.id == boot.id:
        return float(newest.offset) + boot.seconds
    return _beginning(conn, boot)


def _beginning(conn: Connection, boot: Boot) -> float:
    """Where a new boot's part of the timeline begins: where the last one was seen to be.

    How long the machine was off nobody can tell: a wall clock that is years ahead must not make
    every task overdue and every video too old.
    """
    last_call = select(func.max(func.coalesce(calls.c.ended, calls.c.reserved)))
    last_job = select(func.max(jobs.c.accepted))
    last_round = select(func.max(boots.c.seen))
    seen = [conn.execute(last).scalar() for last in (last_call, last_job, last_round)]
    return max((at for at in seen if at is not None), default=boot.wall)


_UNDER_WAY = [state.value for state in State if state not in TERMINAL]

_MAY_WAIT = [State.QUEUED.value, State.SUBMITTING.value, State.RUNNING.value]
"""States of a job that waits in line, or may come back to it."""

_UPSTREAM = [State.SUBMITTING.value, State.RUNNING.value, State.FETCHING.value]
"""States in which upstream has a job, or may have it."""


def refuse_unserved(
    conn: Connection, names: Collection[str], models: Collection[str] | None, now: float
) -> None:
    """Raises StartError, in one line, when the ledger holds what the settings leave to nobody:
    tasks of an account that is not among `names`, which are paid for, or jobs that wait, or may
    come back to wait, for none of `models` (None: any will do).
    """
    problems = [
        f"account {name!r} is not in the settings, and still has {_count(number, 'task')} "
        "upstream: put it back until they are done"
        for name, number in _tasks(conn, now)
        if name not in names
    ]
    wanting = select(jobs.c.model, func.count()).where(jobs.c.state.in_(_MAY_WAIT))
    for model, number in conn.execute(wanting.group_by(jobs.c.model).order_by(jobs.c.model)):
        if models is not None and model not in models:
            problems.append(
                f"no account serves the model {model!r}, and {_count(number, 'video')} of it still "
                "waiting or under way: put it back until they are done"
            )
    if problems:
        raise StartError("; ".join(problems))


def _tasks(conn: Connection, now: float) -> list[tuple[str, int]]:
    """Each account that has any, and how many: jobs under way upstream, content that is to be
    fetched again, and submits of unknown outcome that keep a slot.
    """
    theirs = jobs.c.state.in_(_UPSTREAM) | (jobs.c.content_lost & ~jobs.c.content_gone)
    tasks = select(jobs.c.account.label("name")).where(theirs, jobs.c.account.is_not(None))
    ghosts = select(calls.c.account.label("name")).where(calls.c.slot_until > now)
    both = union_all(tasks, ghosts).subquery()
    counted = select(both.c.name, func.count()).group_by(both.c.name).order_by(both.c.name)
    return [(name, number) for name, number in conn.execute(counted)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def load(conn: Connection, live: Live, windows: Mapping[str, float], boot: int, now: float) -> None:
    """Put into `live` all jobs that are not over, the places still taken, and how the accounts
    fare.
    """
    wanted = jobs.c.state.in_(_UNDER_WAY) | jobs.c.content_lost
    rows = conn.execute(select(jobs).where(wanted).order_by(jobs.c.seq)).mappings()
    found = [read_job(row) for row in rows]
    longest = max(windows.values(), default=0.0)
    ended_lately = (calls.c.boot == boot) & (calls.c.ended > now - longest)
    recent = calls.c.touched & (calls.c.ended.is_(None) | ended_lately)
    taken = [_read_call(row) for row in conn.execute(select(calls).where(recent)).mappings()]
    keeping = select(calls).where(calls.c.slot_until > now)
    ghosts = [_read_call(row) for row in conn.execute(keeping).mappings()]
    counted = conn.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
    states = {State(state): count for state, count in counted}
    rows = conn.execute(select(accounts)).mappings()
    live.load(found, taken, [read_account(row) for row in rows], states, ghosts)
    finished = _latest_finished(conn)
    live.history.learn_all(finished)
    for job in finished:
        took = (job.completed_at or job.created_at) - job.created_at  # by a clock that may be set
        live.lately.learn(job, job.accepted + took)


def _latest_finished(conn: Connection) -> list[Job]:
    """The latest completed videos, as many as are remembered of each account, model and seconds;
    the oldest first.
    """
    columns = (jobs.c.id, jobs.c.account, jobs.c.model, jobs.c.seconds, jobs.c.finished)
    done = (jobs.c.state == State.COMPLETED) & jobs.c.finished.is_not(None)
    latest = select(*columns).where(done).order_by(jobs.c.finished.desc()).limit(LOOKED_THROUGH)
    each = latest.subquery().c
    rank = func.row_number().over(
        partition_by=(each.account, each.model, each.seconds), order_by=each.finished.desc()
    )
    ranked = select(each.id, rank.label("rank")).subquery().c
    wanted = jobs.c.id.in_(select(ranked.id).where(ranked.rank <= REMEMBERED))
    rows = conn.execute(select(jobs).where(wanted).order_by(jobs.c.finished)).mappings()
    return [read_job(row) for row in rows]


def _read_call(row: Any) -> Call:
    kind = Kind(row["kind"])
    return Call(
        row["id"],
        row["account"],
        kind,
        row["job_id"],
        row["reserved"],
        row["ended"],
        row["outcome"],
        bool(row["touched"]),
        row["slot_until"],
    )
