"""Virtual time: the only place of the sandbox that asks what time it is.

Owns the pace at which virtual seconds pass. Never knows what they are used for.
"""

import time
from collections.abc import Callable
from typing import Protocol

import anyio


class Clock(Protocol):
    """What the sandbox needs of a clock; tests bring one that they turn by hand."""

    def now(self) -> float:
        """Virtual Unix time in seconds; never falls."""

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` virtual seconds have passed."""


class VirtualClock:
    """Starts at the real time and runs `speed` times as fast, whatever the wall clock does."""

    def __init__(
        self,
        speed: float = 1.0,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._speed = speed
        self._monotonic = monotonic
        self._start = wall()
        self._origin = monotonic()

    def now(self) -> float:
        return self._start + (self._monotonic() - self._origin) * self._speed

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            await anyio.sleep(seconds / self._speed)
