"""The one writer: transitions that wait together are committed together (one fsync for many), by
one thread.

A transition that fails leaves its neighbours alone: each that has any runs in a savepoint. A commit
that fails fails all of its group. Results are handed back on the event loop, in the order of the
commits, before anyone who waits goes on. The thread is asked through the event loop: a loop of the
simulation runs the same work in place, so that a seed is a run repeated.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import LedgerBroken, StateConflict
from gateway.failpoint import reach
from gateway.ledger.database import translate
from gateway.ledger.transitions import Change, Transition

LARGEST_GROUP = 256
"""Transitions in one commit at most: bounds how long the first of them waits."""

Run = Callable[[Connection, Transition], Change]
Publish = Callable[[Change], None]
Broken = Callable[[LedgerBroken], None]


@dataclass(slots=True)
class _Work:
    transition: Transition
    done: "asyncio.Future[Change]"
    change: Change | None = None
    error: BaseException | None = None


class Writer:
    """Commits transitions in order. `publish` is called on the event loop with each change once it
    is durable.
    """

    def __init__(self, engine: Engine, run: Run, publish: Publish, broken: Broken) -> None:
        self._engine = engine
        self._run_one = run
        self._publish = publish
        self._broken = broken
        self._waiting: deque[_Work] = deque()
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-writer")
        self._conn: Connection | None = None
        self._closed = False
        self._failed: LedgerBroken | None = None
        """Why nothing is committed any more: the process is about to end."""

    async def commit(self, transition: Transition) -> Change:
        """Run `transition` and return its change once it is durable. Raises LedgerError.

        Cancelling the wait does not take the work back: it may be committed all the same.
        """
        if self._closed or self._failed:
            raise self._failed or LedgerBroken("the ledger has been closed")
        loop = asyncio.get_running_loop()
        work = _Work(transition, loop.create_future())
        self._waiting.append(work)
        if self._working is None:
            self._working = loop.create_task(self._work())
        return await asyncio.shield(work.done)

    @property
    def is_working(self) -> bool:
        """Whether something is committed that was not handed back yet, or about to be."""
        return self._working is not None

    async def close(self) -> None:
        """Commit what waits and end the thread."""
        if self._closed:
            return
        self._closed = True
        if self._working is not None:
            await self._working
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                most = min(len(self._waiting), LARGEST_GROUP)
                group = [self._waiting.popleft() for _ in range(most)]
                await loop.run_in_executor(self._thread, self._run, group)
                self._hand_back(group)
        finally:
            self._working = None

    def _run(self, group: list[_Work]) -> None:
        try:
            if self._failed is not None:
                raise self._failed
            self._run_together(group)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            problem = error if isinstance(error, LedgerBroken) else translate(error)
            for work in group:
                work.error = problem

    def _run_together(self, group: list[_Work]) -> None:
        """One transaction for the whole group; a DBAPIError means that none of it is committed."""
        if self._conn is None:
            self._conn = self._engine.connect()
        conn = self._conn
        with conn.begin() as whole:
            for work in group:
                part = conn.begin_nested() if len(group) > 1 else whole
                try:
                    work.change = self._run_one(conn, work.transition)
                except IntegrityError as error:
                    part.rollback()
                    work.error = StateConflict(str(error.orig))
                except DBAPIError:
                    raise
                except Exception as error:  # noqa: BLE001 - handed to whoever asked; the others go on
                    part.rollback()
                    work.error = error
                else:
                    if part is not whole:
                        part.commit()
            reach("commit.written")
        reach("commit.done")

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()

    def _hand_back(self, group: list[_Work]) -> None:
        for work in group:
            if isinstance(work.error, LedgerBroken):
                self._fail(work.error)
            if work.change is not None and work.error is None:
                self._show(work.change)
            if work.done.cancelled():
                continue
            if work.error is not None:
                work.done.set_exception(work.error)
            elif work.change is not None:
                work.done.set_result(work.change)

    def _show(self, change: Change) -> None:
        try:
            self._publish(change)
        except Exception as error:  # noqa: BLE001 - memory no longer shows what is committed
            self._fail(LedgerBroken(f"a committed change could not be shown: {error!r}"))

    def _fail(self, error: LedgerBroken) -> None:
        if self._failed is None:
            self._failed = error
            self._broken(error)
