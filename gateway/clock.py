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
    try:
        boot_id = _BOOT_ID.read_text().strip()
    except OSError:
        boot_id = uuid.uuid4().hex
    return Boot(boot_id, _since_boot(), time.time())


class Clock:
    """The machine's clocks. `offset` carries the boot's seconds to the ledger's timeline."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def now(self) -> float:
        """Seconds on the ledger's timeline: never steps, counts while the machine sleeps."""
        return self.since_boot() + self._offset

    def since_boot(self) -> float:
        """Seconds since the machine was started, those that it slept too."""
        return _since_boot()

    def ahead(self) -> float:
        """Seconds by which `now` is ahead of the event loop's time, which its timers go by. It
        grows by as long as the machine sleeps, for the loop doesn't count that.
        """
        return self.now() - asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Unix time, for people to read."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _since_boot() -> float:
    """Only Linux has a clock that counts sleep; elsewhere a place returns that much later."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
