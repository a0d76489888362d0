"""The only place that asks the time. Two clocks, never mixed.

`wall` is Unix time as people read it. It may step, so nothing is ever decided by it.

`now` is the timeline on which every decision runs: CLOCK_BOOTTIME (it counts while the machine
sleeps) plus an offset that the ledger fixes once a boot. It goes on over restarts of the process,
and no step of the wall clock bends it. After another boot, or where the boot can't be told, the
ledger fixes a new offset and the window waits one period (see `ledger/restart.py`).
"""

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Boot:
    """What a process can know about time when it starts. Seconds; `wall` is Unix time."""

    id: str
    seconds: float
    wall: float


def read_boot() -> Boot:
    """Read the machine's clocks. Without a known boot id the answer is a new one, never seen
    before.
    """
    boot_id = uuid.uuid4().hex
    if hasattr(time, "CLOCK_BOOTTIME"):
        with suppress(OSError):
            boot_id = _BOOT_ID.read_text().strip()
    return Boot(boot_id, time.clock_gettime(_counter()), time.time())


def _counter() -> int:
    """The machine's clock that never steps; on Linux, one that counts while the machine sleeps."""
    return getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The machine's clocks. `offset` carries the boot's seconds to the ledger's timeline."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset
        self._clock = _counter()

    def now(self) -> float:
        """Seconds on the ledger's timeline: never steps, counts while the machine sleeps."""
        return time.clock_gettime(self._clock) + self._offset

    def wall(self) -> float:
        """Unix time, for people to read."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
