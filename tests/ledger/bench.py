"""What the tests of the ledger share: a boot, a job, and counting what reaches the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from gateway.clock import Boot
from gateway.job import Call, Job, Kind, State
from gateway.ledger.callers import add_caller
from gateway.ledger.database import FILE, open_database, open_for_reading
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import accept, move, reserve, settle

WALL = 1_800_000_000.0
BOOT = Boot("boot-a", 1000.0, WALL)
ACCOUNT = "main"
WINDOWS = {ACCOUNT: 61.0}
CALLER = "caller_alice"
DAY = 86_400.0

_JOB = Job(
    id="",
    caller=CALLER,
    state=State.QUEUED,
    model="sora-2",
    size="1280x720",
    seconds=10,
    prompt="a boat",
    created_at=WALL,
    accepted=WALL,
)


def a_job(number: int = 0, **fields: Any) -> Job:
    """A job of alice's, as it stands before it is accepted."""
    return replace(_JOB, id=f"video_{number}", **fields)


async def accepted(ledger: Ledger, number: int = 0, **fields: Any) -> Job:
    """A job in the ledger, in whatever state `fields` say."""
    change = await ledger.commit(accept(a_job(number, **fields)))
    return change.jobs[0]


async def reserved(
    ledger: Ledger, kind: Kind = Kind.POLL, job: Job | None = None, now: float = WALL
) -> Call:
    """A call that has taken its place."""
    change = await ledger.commit(
        reserve(kind, job, account=ACCOUNT, boot=ledger.boot, now=now, wall=WALL)
    )
    return change.calls[0]


async def reserve_submit(ledger: Ledger, job: Job, now: float = WALL) -> tuple[Call, Job]:
    """A job's submit that has taken its place, and the job as it stands then."""
    change = await ledger.commit(
        reserve(Kind.SUBMIT, job, account=ACCOUNT, boot=ledger.boot, now=now, wall=WALL)
    )
    return change.calls[0], change.jobs[0]


async def moved(ledger: Ledger, job: Job, to: State, **changes: Any) -> Job:
    change = await ledger.commit(move(job, to, changes))
    return change.jobs[0]


async def ended_unknown(ledger: Ledger, call: Call, job: Job, slot_until: float) -> None:
    """The end of a submit of which nobody can tell whether it made a task."""
    failed = {"error_code": "submission_outcome_unknown", "error_message": "?"}
    transition = settle(
        call,
        lambda account: account,
        job,
        State.FAILED,
        failed,
        outcome="unknown",
        touched=True,
        now=WALL,
        slot_until=slot_until,
    )
    await ledger.commit(transition)


async def with_alice(ledger: Ledger) -> Ledger:
    """The ledger, knowing the caller of the jobs here."""
    await ledger.commit(add_caller("alice", WALL))
    return ledger


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the file as any other process sees them."""
    reader = open_for_reading(folder)
    try:
        return [tuple(row) for row in reader.execute(sql)]
    finally:
        reader.close()


def an_empty_ledger(folder: Path) -> Path:
    """The file of a ledger that nobody uses."""
    open_database(folder).dispose()
    return folder / FILE


@contextmanager
def counting_commits() -> Iterator[list[object]]:
    """A list that grows by one with every transaction committed, by whatever engine."""
    commits: list[object] = []

    def count(connection: object) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", count)
    try:
        yield commits
    finally:
        event.remove(Engine, "commit", count)
