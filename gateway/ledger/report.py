"""What an operator reads of the ledger, beside a running server or without one: jobs with all that
was done for them, and how accounts fare.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.clock import Boot
from gateway.job import Account, Job, State
from gateway.ledger.database import open_database, open_for_reading
from gateway.ledger.restart import moment
from gateway.ledger.transitions import read_account, read_job


@dataclass(frozen=True, slots=True)
class CallLine:
    """A call upstream that was made for a job. `reserved_at`: Unix seconds; `took`: seconds, None
    while it is under way.
    """

    reserved_at: float
    kind: str
    account: str
    outcome: str | None
    took: float | None
    slot_until: float | None


@dataclass(frozen=True, slots=True)
class JobReport:
    """All that is known of one job. `events`: when (Unix seconds) it entered which state."""

    job: Job
    caller: str
    calls: tuple[CallLine, ...]
    events: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class AccountReport:
    """How an account fares at `now`, a moment on the ledger's timeline. `ghosts`: slots that
    submits of unknown outcome keep. `to_fetch`: finished videos that are not here yet;
    `to_fetch_again`: how many of them have a failed download.
    """

    account: Account
    now: float
    running: int
    to_fetch: int
    to_fetch_again: int
    ghosts: int


def list_jobs(
    folder: Path, caller: str | None, state: State | None, limit: int
) -> list[tuple[Job, str]]:
    """Jobs and their callers' names, the newest first."""
    sql = """
        SELECT jobs.*, callers.name AS caller_name FROM jobs
        JOIN callers ON callers.id = jobs.caller
        WHERE (:caller IS NULL OR callers.name = :caller) AND (:state IS NULL OR state = :state)
        ORDER BY seq DESC LIMIT :limit
    """
    values = {"caller": caller, "state": state, "limit": limit}
    with _reading(folder) as reader:
        return [_with_name(row) for row in reader.execute(sql, values)]


def report_job(folder: Path, job_id: str) -> JobReport | None:
    """A job, its calls and its events, oldest first; None: there is none of this id."""
    with _reading(folder) as reader:
        row = reader.execute(
            "SELECT jobs.*, callers.name AS caller_name FROM jobs "
            "JOIN callers ON callers.id = jobs.caller WHERE jobs.id = ?",
            (job_id,),
        ).fetchone()
        if row is None:
            return None
        job, caller = _with_name(row)
        calls = reader.execute(
            "SELECT reserved_at, kind, account, outcome, ended - reserved, slot_until "
            "FROM calls WHERE job_id = ? ORDER BY id",
            (job_id,),
        )
        events = reader.execute(
            "SELECT at, type FROM outbox WHERE subject = ? ORDER BY id", (job_id,)
        )
        return JobReport(
            job,
            caller,
            tuple(CallLine(*line) for line in calls),
            tuple((at, kind.removeprefix("job.")) for at, kind in events),
        )


def report_accounts(folder: Path, boot: Boot) -> list[AccountReport]:
    """All accounts that the ledger knows, by name."""
    engine = open_database(folder)
    try:
        with engine.begin() as conn:
            now = moment(conn, boot)
    finally:
        engine.dispose()
    sql = """
        SELECT accounts.*,
            (SELECT count(*) FROM jobs WHERE account = name AND state IN ('submitting', 'running'))
                AS running,
            (SELECT count(*) FROM jobs WHERE account = name AND state = 'fetching') AS to_fetch,
            (SELECT count(*) FROM jobs
                WHERE account = name AND state = 'fetching' AND retry > finished) AS to_fetch_again,
            (SELECT count(*) FROM calls WHERE account = name AND slot_until > ?) AS ghosts
        FROM accounts ORDER BY name
    """
    with _reading(folder) as reader:
        found = []
        for row in reader.execute(sql, (now,)):
            values = dict(row)
            counts = [
                values.pop(key) for key in ("running", "to_fetch", "to_fetch_again", "ghosts")
            ]
            found.append(AccountReport(read_account(values), now, *counts))
        return found


def _with_name(row: sqlite3.Row) -> tuple[Job, str]:
    values = dict(row)
    name: str = values.pop("caller_name")
    return read_job(values), name


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    open_database(folder).dispose()  # an older ledger is migrated first
    reader = open_for_reading(folder)
    try:
        yield reader
    finally:
        reader.close()
