"""One account's loop: read a view, ask policy what comes next, reserve that call, start it, go on.

The loop awaits no call, so a long download blocks nothing. It sleeps until the next thing can
happen: a moment that policy names, or a commit. That the machine slept meanwhile, which no timer
counts, `engine/watch.py` sees for all loops.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from gateway.clock import Clock
from gateway.engine.calls import Calls
from gateway.engine.feeding import Feeding
from gateway.errors import LedgerFull, StateConflict
from gateway.job import Job, Kind, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import reserve
from gateway.policy.dispatch import Fetching, Rules, Send, View, next_call
from gateway.policy.polling import Running
from gateway.policy.window import Place


class Dispatcher:
    """The loop of one account, which serves `models`. `has_room(n)`: whether the disk takes n more
    videos.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        models: frozenset[str],
        ledger: Ledger,
        calls: Calls,
        clock: Clock,
        has_room: Callable[[int], bool],
        feeding: Feeding,
    ) -> None:
        self._name = name
        self._rules = rules
        self._models = models
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._has_room = has_room
        self._feeding = feeding
        feeding.join(name, self.wake)
        self._changed = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something that concerns this account was committed, or the machine slept: look again."""
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
                self._feeding.awake(self._name, self._models)
                view = self.view()
                decision = next_call(view, self._rules)
                if isinstance(decision, Send):
                    await self._send(decision, group)
                else:
                    hungry, until = self._hunger(view, decision.until)
                    self._feeding.looked(self._name, self._models, hungry=hungry)
                    await self._sleep_until(until)

    async def _send(self, send: Send, group: asyncio.TaskGroup) -> None:
        job = self._ledger.live.find(send.job_id) if send.job_id else None
        takes = job if send.kind is Kind.SUBMIT else None
        try:
            with self._feeding.reserving(takes) if takes else nullcontext():
                self._feeding.looked(self._name, self._models, hungry=False)
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

    def _hunger(self, view: View, until: float) -> tuple[bool, float]:
        """Whether it could submit at once, if only there were a job and room for its video; and
        until when it may sleep: it must look when it begins to be hungry.
        """
        if view.head is not None and view.room:
            return False, until
        wish = next_call(replace(view, head=view.head or "any", room=True), self._rules)
        return (True, until) if isinstance(wish, Send) else (False, min(until, wish.until))

    async def _sleep_until(self, until: float) -> None:
        seconds = until - self._clock.now()
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def view(self) -> View:
        """What the decision may look at, as of now."""
        now = self._clock.now()
        live = self._ledger.live
        book = live.books[self._name]
        book.forget(now, self._rules.window.lasts)
        idle = list(live.idle(book))
        head = live.line.head(self._models, now)
        slots_taken = book.slots_taken(now)
        return View(
            now=now,
            account=book.account,
            places=[
                Place(call.reserved, call.ended)
                for call in book.calls.values()
                if call.kind in self._rules.counts
            ],
            slots_taken=slots_taken,
            slot_returns=book.slot_returns(now),
            running=[self._running(job) for job in idle if job.state is State.RUNNING],
            polling=[self._running(job) for job in live.polled(book)],
            latency=book.latency,
            fetching=[
                Fetching(job.id, job.retry, job.finished or 0.0, _seen_running(job))
                for job in idle
                if job.state in (State.FETCHING, State.COMPLETED)
            ],
            to_fetch=book.to_fetch(),
            to_fetch_again=book.to_fetch_again(),
            head=head.id if head else None,
            room=head is None
            or slots_taken >= self._rules.concurrent  # then nobody asks
            or self._has_room(live.unfinished() + 1),
            looking=book.is_making(Kind.POLL),
            submitting=book.is_making(Kind.SUBMIT),
            probed=book.probed,
            fetched_in_vain=live.fetched_in_vain(book),
        )

    def _running(self, job: Job) -> Running:
        habit = self._ledger.live.history.habit(job, self._rules.polling.expected)
        return Running(job.id, job.submitted or 0.0, job.polled, job.looks, habit)


def _seen_running(job: Job) -> float:
    """When a finished video was not finished yet, the last time that anybody looked."""
    before = job.looks[:-1]
    return (job.submitted or 0.0) + (before[-1].elapsed if before else 0.0)
