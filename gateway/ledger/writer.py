"""The one writer: a thread that runs transitions and commits those that wait together (one fsync
for many).

A transition that fails leaves its neighbours alone (each runs in a savepoint). A commit that fails
fails all of its group. Results are handed back on the event loop, in the order of the commits,
before anyone who waits goes on.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.errors import LedgerBroken, StateConflict
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
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def commit(self, transition: Transition) -> Change:
        """Run `transition` and return its change once it is durable. Raises LedgerError.

        Cancelling the wait does not take the work back: it may be committed all the same.
        """
        work = _Work(transition, self._loop.create_future())
        self._queue.put(work)
        return await asyncio.shield(work.done)

    async def close(self) -> None:
        """Commit what waits and end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with self._engine.connect() as conn:
            while (group := self._next_group()) is not None:
                try:
                    self._run_together(conn, group)
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                    problem = translate(error)
                    for work in group:
                        work.error = problem
                self._loop.call_soon_threadsafe(self._hand_back, group)

    def _run_together(self, conn: Connection, group: list[_Work]) -> None:
        """One transaction for the whole group; a DBAPIError means that none of it is committed."""
        with conn.begin():
            for work in group:
                savepoint = conn.begin_nested()
                try:
                    work.change = self._run_one(conn, work.transition)
                except IntegrityError as error:
                    savepoint.rollback()
                    work.error = StateConflict(str(error.orig))
                except DBAPIError:
                    raise
                except Exception as error:  # noqa: BLE001 - handed to whoever asked; the others go on
                    savepoint.rollback()
                    work.error = error
                else:
                    savepoint.commit()

    def _next_group(self) -> list[_Work] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < LARGEST_GROUP:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                break
            if work is None:
                self._queue.put(None)
                break
            group.append(work)
        return group

    def _hand_back(self, group: list[_Work]) -> None:
        for work in group:
            if isinstance(work.error, LedgerBroken):
                self._broken(work.error)
            if work.change is not None and work.error is None:
                self._publish(work.change)
            if work.done.cancelled():
                continue
            if work.error is not None:
                work.done.set_exception(work.error)
            elif work.change is not None:
                work.done.set_result(work.change)
