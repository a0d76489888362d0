"""One account's loop: read a view, ask policy what comes next, reserve that call, start it, go on.

The loop awaits no call, so a long download blocks nothing. It sleeps until the next thing can
happen: a moment that policy names, or a commit.
"""

import asyncio
import math
from collections.abc import Callable

from gateway.clock import Clock
from gateway.engine.calls import Calls
from gateway.errors import LedgerFull, StateConflict
from gateway.job import Kind, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import reserve
from gateway.policy.dispatch import Fetching, Rules, Running, Send, View, next_call
from gateway.policy.window import Place

LONGEST_SLEEP = 60.0
"""Seconds: the machine may have slept meanwhile, and timers of the event loop don't count that."""


class Dispatcher:
    """The loop of one account. `has_room(n)`: whether the disk takes n more videos."""

    def __init__(
        self,
        name: str,
        rules: Rules,
        ledger: Ledger,
        calls: Calls,
        clock: Clock,
        has_room: Callable[[int], bool],
    ) -> None:
        self._name = name
        self._rules = rules
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._has_room = has_room
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def wake(self) -> None:
        """Something was committed: look again."""
        self._changed.set()

    def stop(self) -> None:
        """Reserve no call from now on, and cut off those that can be made again."""
        self._stopping = True
        self._calls.stop()
        self._changed.set()

    async def run(self) -> None:
        """Until `stop`, and then until the calls under way have ended."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._changed.clear()
                decision = next_call(self.view(), self._rules)
                if isinstance(decision, Send):
                    await self._send(decision, group)
                else:
                    await self._sleep_until(decision.until)

    async def _send(self, send: Send, group: asyncio.TaskGroup) -> None:
        job = self._ledger.live.find(send.job_id) if send.job_id else None
        try:
            change = await self._ledger.commit(
                reserve(
                    send.kind,
                    job,
                    account=self._name,
                    boot=self._ledger.boot,
                    now=self._clock.now(),
                    wall=self._clock.wall(),
                )
            )
        except StateConflict:
            # The job moved meanwhile, and perhaps by another process: look again, at the file.
            if job is not None:
                self._ledger.refresh(job.id)
            return
        except LedgerFull:
            await self._clock.sleep(1)  # nothing goes upstream that can't be written down first
            return
        job = change.jobs[0] if change.jobs else job
        group.create_task(self._calls.make(change.calls[0], job))

    async def _sleep_until(self, until: float) -> None:
        seconds = min(until - self._clock.now(), LONGEST_SLEEP)
        if seconds <= 0 and not math.isinf(until):
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def view(self) -> View:
        """What the decision may look at, as of now."""
        now = self._clock.now()
        live = self._ledger.live
        book = live.books[self._name]
        window = self._rules.window
        book.forget(now, window.period + window.guard)
        idle = list(live.idle(book))
        to_fetch = sum(job.state is State.FETCHING for job in book.tasks.values())
        head = live.head(now)
        return View(
            now=now,
            account=book.account,
            places=[
                Place(call.reserved, call.ended)
                for call in book.calls.values()
                if call.kind in self._rules.counts
            ],
            slots_taken=book.slots_taken(now),
            slot_returns=book.slot_returns(now),
            running=[
                Running(job.id, job.submitted or 0.0, job.polled)
                for job in idle
                if job.state is State.RUNNING
            ],
            fetching=[
                Fetching(job.id, job.retry)
                for job in idle
                if job.state in (State.FETCHING, State.COMPLETED)
            ],
            to_fetch=to_fetch,
            head=head.id if head else None,
            room=head is None
            or book.slots_taken(now) >= self._rules.concurrent  # then nobody asks
            or self._has_room(live.unfinished() + 1),
            looking=book.is_making(Kind.POLL),
            submitting=book.is_making(Kind.SUBMIT),
            head_due=live.head_due() if head is None else math.inf,
            probed=book.probed,
        )
