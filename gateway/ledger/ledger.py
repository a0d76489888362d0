"""The ledger as the other rooms see it: commit a transition, ask for a job or a key, listen to what
happens.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from gateway.clock import Boot
from gateway.errors import LedgerBroken, StartError
from gateway.job import TERMINAL, AccountChanged, Event, Job, JobChanged, JobMoved, Key
from gateway.ledger import schema, statements
from gateway.ledger.callers import read_key
from gateway.ledger.database import open_database, open_for_reading, translate
from gateway.ledger.knock import knock
from gateway.ledger.live import Live
from gateway.ledger.operator import INPUT_NEEDED
from gateway.ledger.restart import begin_boot, load, refuse_unserved
from gateway.ledger.transitions import Change, Transition, read_account, read_job
from gateway.ledger.writer import Writer

Listener = Callable[[Event], None]
Waker = Callable[[Change], None]

_ALL_KEYS = """
    SELECT keys.id, keys.caller, callers.name, keys.digest, keys.created_at, keys.revoked_at
    FROM keys JOIN callers ON callers.id = keys.caller ORDER BY keys.created_at
"""


class Ledger:
    """One folder's ledger. `open` it, `start` its writer on the event loop, `close` it.

    `offset` carries this boot's seconds to the ledger's timeline; `boot` is the boot's number in
    it.
    """

    def __init__(
        self,
        engine: Engine,
        reader: sqlite3.Connection,
        boot: int,
        offset: float,
        upstreams: Mapping[str, str],
    ) -> None:
        self.live = Live(upstreams)
        self.boot = boot
        self.offset = offset
        self._engine = engine
        self._reader = reader
        self._me = token_hex(16)
        self._writer: Writer | None = None
        self._listeners: list[Listener] = []
        self._wakers: list[Waker] = []
        self.seen = 0
        """The last line of the outbox that this process has taken in."""
        self._version = -1
        self._overtaken: set[str] = set()
        """Jobs that another process changed lately: a commit of ours that memory does not show yet
        may hold an older row.
        """

    @classmethod
    def open(
        cls,
        folder: Path,
        boot: Boot,
        windows: Mapping[str, float],
        models: Collection[str] | None = None,
        upstreams: Mapping[str, str] = MappingProxyType({}),
    ) -> "Ledger":
        """Open and migrate the ledger in `folder`, and read what is under way.

        `windows`: for each account of the settings, how long a call's place takes to return (period
        + guard). `models`: those that any of them serves; None: whatever waits. `upstreams`: where
        its videos are made; those that aren't named are alone with theirs. Raises StartError.
        """
        engine = open_database(folder)
        try:
            with engine.begin() as conn:
                number, offset = begin_boot(conn, boot, windows)
                now = boot.seconds + offset
                refuse_unserved(conn, windows, models, now)
                ledger = cls(engine, open_for_reading(folder), number, offset, upstreams)
                load(conn, ledger.live, windows, number, now)
                latest = select(func.coalesce(func.max(schema.outbox.c.id), 0))
                ledger.seen = conn.execute(latest).scalar_one()
        except DBAPIError as error:
            raise StartError(f"the ledger in {folder} can't be used: {error.orig}") from error
        return ledger

    def start(self, wall: Callable[[], float], on_broken: Callable[[LedgerBroken], None]) -> None:
        """Start the writer on the running event loop. `wall` stamps the outbox."""
        me = self._me

        def run(conn: Connection, transition: Transition) -> Change:
            return run_transition(conn, transition, me, wall())

        self._writer = Writer(self._engine, run, self._publish, on_broken)

    async def close(self) -> None:
        """Commit what waits, then close the files."""
        if self._writer is not None:
            await self._writer.close()
        self._reader.close()
        self._engine.dispose()
        path = str(self._engine.url.database)
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as last:
            # What was overwritten, a purged prompt say, must not stay readable in the log.
            last.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event, on the event loop, after its commit."""
        self._listeners.append(listener)

    def on_commit(self, waker: Waker) -> None:
        """Call `waker` with every change, by whichever process, once memory shows it."""
        self._wakers.append(waker)

    async def commit(self, transition: Transition) -> Change:
        """Run a transition and return its change once it is durable. Raises LedgerError."""
        if self._writer is None:
            raise LedgerBroken("the ledger's writer has not been started")
        return await self._writer.commit(transition)

    def job(self, job_id: str) -> Job | None:
        """A job by its id: from memory while it is not over, else from the file."""
        live = self.live.jobs.get(job_id)
        return self._stored(job_id) if live is None else live

    def refresh(self, job_id: str) -> Job | None:
        """A job as the file has it, and memory from now on: another process may have moved it."""
        job = self._stored(job_id)
        if job is not None:
            self._see(job)
        return job

    def jobs_of(self, caller: str, after: Job | None, limit: int, newest_first: bool) -> list[Job]:
        """A caller's jobs that it has not deleted, in order of acceptance, at most `limit`."""
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        edge = after.seq if after else 2**62 if newest_first else 0
        sql = f"""
            SELECT * FROM jobs WHERE caller = ? AND deleted_at IS NULL AND seq {sign} ?
            ORDER BY seq {order} LIMIT ?
        """  # noqa: S608 - two words of ours
        rows = self._reader.execute(sql, (caller, edge, limit))
        return [read_job(row) for row in rows]

    def kept_before(self, finished: float, limit: int) -> list[Job]:
        """Completed jobs that upstream finished before then and whose content is kept, oldest
        first.
        """
        return self._kept("finished < ?", finished, limit)

    def kept_and_fetched(self, limit: int) -> list[Job]:
        """Completed jobs whose content is kept and was fetched, oldest first."""
        return self._kept("fetched_at IS NOT NULL", limit)

    def kept_though_deleted(self, limit: int) -> list[Job]:
        """Completed jobs that were deleted and whose content has not been removed yet."""
        return self._kept("deleted_at IS NOT NULL", limit)

    def wants_content(self, job_id: str) -> bool:
        """Whether there is such a job, and its content is to be here, or may be one day."""
        job = self.job(job_id)
        return job is not None and job.wants_content

    def needs_input(self, sha256: str) -> bool:
        """Whether a job that may be sent, or sent once more, has this input image."""
        return self._reader.execute(INPUT_NEEDED, (sha256,)).fetchone() is not None

    def key(self, digest: str) -> Key | None:
        """A key by its digest, as committed now, by whichever process."""
        self.catch_up()
        return self.live.key(digest)

    def _publish(self, change: Change) -> None:
        if self._overtaken:
            change = replace(change, jobs=tuple(map(self._newest, change.jobs)))
        self.live.apply(change)
        for event in change.events:
            for listener in self._listeners:
                listener(event)
        self._wake(change)

    def _newest(self, job: Job) -> Job:
        """A job of a commit of ours as it now stands: another process may have changed it since."""
        return (self._stored(job.id) or job) if job.id in self._overtaken else job

    def _stored(self, job_id: str) -> Job | None:
        row = self._reader.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else read_job(row)

    def _kept(self, where: str, *values: float) -> list[Job]:
        sql = f"""
            SELECT * FROM jobs WHERE state = 'completed' AND NOT content_gone AND {where}
            ORDER BY finished LIMIT ?
        """  # noqa: S608 - the words of the three questions above
        return [read_job(row) for row in self._reader.execute(sql, values)]

    def catch_up(self) -> None:
        """See what another process wrote: its lines in the outbox bear another writer's name."""
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        first = self._version < 0
        (latest,) = self._reader.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
        self._version, since, self.seen = version, self.seen, latest
        sql = "SELECT type, subject FROM outbox WHERE id > ? AND writer <> ?"
        foreign = self._reader.execute(sql, (since, self._me)).fetchall()
        if first or any(row["type"].startswith("key.") for row in foreign):
            self.live.load_keys(read_keys(self._reader))
        if self._writer is None or not self._writer.is_working:
            self._overtaken.clear()
        for job_id in {row["subject"] for row in foreign if row["type"].startswith("job.")}:
            self._overtaken.add(job_id)
            self.refresh(job_id)
        for name in {row["subject"] for row in foreign if row["type"].startswith("account.")}:
            self._see_account(name)

    def _see(self, job: Job) -> None:
        """Take in a job that another process changed."""
        before = self.live.jobs.get(job.id)
        moved = before is not None and before.state is not job.state
        event = JobMoved(before.state if before else None, job)
        fresh = before is None and job.state not in TERMINAL
        change = Change(jobs=(job,), events=(event,) if moved or fresh else ())
        self.live.apply(change)
        self._wake(change)

    def _see_account(self, name: str) -> None:
        """Take in an account that another process changed."""
        row = self._reader.execute("SELECT * FROM accounts WHERE name = ?", (name,)).fetchone()
        book = self.live.books.get(name)
        if row is None or book is None:
            return
        event = AccountChanged(book.account, read_account(row))
        change = Change(accounts=(event.account,))
        self.live.apply(change)
        for listener in self._listeners:
            listener(event)
        self._wake(change)

    def _wake(self, change: Change) -> None:
        for wake in self._wakers:
            wake(change)


def commit_beside(folder: Path, transition: Transition, wall: float) -> Change:
    """Run one transition from another process than the server's, which sees it before its next
    answer, and looks at once since it hears a knock. Raises LedgerError.
    """
    engine = open_database(folder)
    try:
        with engine.begin() as conn:
            change = run_transition(conn, transition, token_hex(16), wall)
    except DBAPIError as error:
        raise translate(error) from error
    knock(folder)
    return change


def all_keys(folder: Path) -> list[Key]:
    """All keys of the ledger in `folder`, oldest first, as another process than the server sees
    them.
    """
    open_database(folder).dispose()
    reader = open_for_reading(folder)
    try:
        return read_keys(reader)
    finally:
        reader.close()


def read_keys(reader: sqlite3.Connection) -> list[Key]:
    """All keys, oldest first."""
    return [read_key(row) for row in reader.execute(_ALL_KEYS)]


def run_transition(conn: Connection, transition: Transition, writer: str, at: float) -> Change:
    """A transition, and a line in the outbox for each thing that it made happen. `at`: Unix
    seconds.
    """
    change = transition(conn)
    rows: list[dict[str, object]] = []
    for event in change.events:
        if isinstance(event, JobMoved):
            job = event.job
            data = {"caller": job.caller, "from": event.before, "account": job.account}
            rows.append({"type": f"job.{job.state}", "subject": job.id, "data": data})
        elif isinstance(event, JobChanged):
            rows.append({"type": "job.changed", "subject": event.job.id, "data": {}})
        elif isinstance(event, AccountChanged):
            account = event.account
            told = {"paused": account.paused, "trouble": account.trouble, "doubt": account.doubt}
            rows.append({"type": "account.changed", "subject": account.name, "data": told})
    for key in change.keys:
        done = "created" if key.revoked_at is None else "revoked"
        rows.append({"type": f"key.{done}", "subject": key.id, "data": {"caller": key.caller.name}})
    if rows:
        conn.execute(statements.ADD_EVENTS, [row | {"writer": writer, "at": at} for row in rows])
    return change
