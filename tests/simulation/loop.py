"""An event loop on virtual time: nothing waits, and nothing happens at the same time.

Threads are not used: work handed to one is done in place, either at once or when its time is over,
so that a seed is a run repeated. `fuse` makes it stop dead after so many steps: no `finally` runs.
"""

import asyncio
import heapq
import threading
from asyncio import base_events
from collections.abc import Callable
from random import Random
from typing import Any


class Crash(BaseException):
    """The process is gone."""


class VirtualLoop(base_events.BaseEventLoop):
    """`chance` decides how long threads take, `slowest` seconds at most. Time begins at `start` and
    passes between steps only.
    """

    def __init__(self, chance: Random, start: float, slowest: float) -> None:
        super().__init__()
        self._slowest = slowest
        self._now = start
        self._chance = chance
        self.fuse: int | None = None
        """Steps until the crash; None: it does not burn."""
        self.set_debug(False)

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """One step: the next callback that is due, time going on to it if none is due now."""
        if self.fuse is not None:
            if self.fuse <= 0:
                raise Crash
            self.fuse -= 1
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        ready = self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:  # type: ignore[attr-defined]
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1
        if not ready and not scheduled:
            raise RuntimeError("nothing will ever happen again")
        if not ready:
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            ready.append(handle)
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _write_to_self(self) -> None:
        """With a thread that has something to say a seed would not be a run repeated."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("something uses a real thread")

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Do it in place: its effects come at once or late, its result late."""
        done = self.create_future()
        if self._chance.random() < 0.5:
            result = _outcome(func, args)
            self.call_later(self._work(), _tell, done, result)
        else:
            self.call_later(self._work(), lambda: _tell(done, _outcome(func, args)))
        return done

    def _work(self) -> float:
        return self._chance.random() ** 4 * self._slowest


Result = tuple[Any, BaseException | None]


def _outcome(func: Callable[..., Any], args: tuple[Any, ...]) -> Result:
    try:
        return func(*args), None
    except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
        return None, error


def _tell(done: "asyncio.Future[Any]", result: Result) -> None:
    if done.done():
        return
    value, error = result
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)
