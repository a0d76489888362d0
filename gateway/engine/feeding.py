"""Which sleeping account a waiting job wakes.

A commit wakes the accounts that it concerns, and nobody else. A job that waits concerns no account
yet, so an account that could submit at once, if only there were a job of its models and room for
its video, is noted here when it falls asleep: it is hungry. While a job waits that a hungry account
serves, one of them is fed: it wakes and looks. Whatever it then does, the next one is fed if a job
still waits; so as many wake as there are jobs, one after the other, and one that does not take its
meal passes it on. Hunger ends when the account wakes, for whatever reason.

No job waits while a hungry account could take it: the line is looked at after every commit, after
every decision, when a claim ends, and when a job comes due.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.clock import Clock
from gateway.job import Job
from gateway.ledger.live import Live
from gateway.ledger.transitions import Change

Models = frozenset[str]


class Feeding:
    """All accounts' loops, the hungry ones among them. `has_room(n)`: whether the disk takes n more
    videos.

    Accounts that serve the same models are one group: a look at the line costs as much as there are
    groups with hungry accounts.
    """

    def __init__(self, live: Live, clock: Clock, has_room: Callable[[int], bool]) -> None:
        self._live = live
        self._clock = clock
        self._has_room = has_room
        self._wakers: dict[str, Callable[[], None]] = {}
        self._hungry: dict[Models, dict[str, None]] = {}
        """Of each group, those who wait longest first."""
        self._fed: str | None = None
        """Who was woken for a job and has not looked yet."""
        self._bell: asyncio.TimerHandle | None = None
        self._rings = math.inf
        """When the bell rings: the next job comes due."""

    def join(self, name: str, wake: Callable[[], None]) -> None:
        """Whom to wake for this account."""
        self._wakers[name] = wake

    def on_commit(self, change: Change) -> None:
        """Wake whom it concerns."""
        for name in concerned(change):
            if name in self._wakers:
                self._wakers[name]()
        self._feed()

    def awake(self, name: str, models: Models) -> None:
        """An account is about to look: it is not hungry."""
        group = self._hungry.get(models, {})
        group.pop(name, None)
        if not group:
            self._hungry.pop(models, None)

    def looked(self, name: str, models: Models, *, hungry: bool) -> None:
        """An account has decided what it does, and is still hungry or not."""
        if hungry:
            self._hungry.setdefault(models, {})[name] = None
        if self._fed == name:
            self._fed = None
        self._feed()

    @contextmanager
    def reserving(self, job: Job) -> Iterator[None]:
        """While a job's submit is being reserved, it is offered to nobody else."""
        self._live.line.claim(job)
        try:
            yield
        finally:
            self._live.line.release(job)
            self._feed()

    def stop(self) -> None:
        """Feed nobody any more."""
        self._hungry.clear()
        self._set_bell(math.inf, 0.0)

    def _feed(self) -> None:
        if self._fed is not None or not self._hungry:
            return
        now, line = self._clock.now(), self._live.line
        for models, group in self._hungry.items():
            if line.head(models, now) is not None:
                if not self._has_room(self._live.unfinished() + 1):
                    return  # the commit that makes room feeds
                self._fed = next(iter(group))
                self.awake(self._fed, models)
                self._wakers[self._fed]()
                return
        self._set_bell(min(line.next_due(models) for models in self._hungry), now)

    def _set_bell(self, rings: float, now: float) -> None:
        if rings == self._rings:
            return
        if self._bell is not None:
            self._bell.cancel()
        self._bell, self._rings = None, rings
        if not math.isinf(rings):
            loop = asyncio.get_running_loop()
            self._bell = loop.call_later(max(0.0, rings - now), self._ring)

    def _ring(self) -> None:
        self._bell, self._rings = None, math.inf
        self._feed()


def concerned(change: Change) -> set[str]:
    """The accounts of a change's calls, jobs and accounts."""
    accounts = {call.account for call in change.calls} | {each.name for each in change.accounts}
    return accounts | {job.account for job in change.jobs if job.account is not None}
