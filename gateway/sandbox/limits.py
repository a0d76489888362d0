"""The two limits, exactly: calls in a sliding window, and tasks at once.

Owns the arithmetic of both. Never asks the time, awaits, or knows what a call is: every moment is
an argument, in seconds, and moments given to one object never fall.
"""

from collections import deque


class SlidingWindow:
    """At most `limit` calls in any half-open window [t, t + period).

    Two calls exactly one period apart are in no window together.
    """

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._calls: deque[float] = deque()

    def taken(self, now: float) -> int:
        """How many counted calls the window ending at `now` holds."""
        while self._calls and now - self._calls[0] >= self.period:
            self._calls.popleft()
        return len(self._calls)

    def wait(self, now: float) -> float:
        """Seconds until there is room for a call; 0.0 if there is room now."""
        over = self.taken(now) - self.limit
        if over < 0:
            return 0.0
        # Not `+ period - now`: rounding may make that zero while the window is still full.
        return self.period - (now - self._calls[over])

    def count(self, now: float) -> None:
        """Count a call at `now`, whether or not there is room."""
        self._calls.append(now)

    def uncount(self, at: float) -> None:
        """Take back the call counted at `at`, if the window still holds it."""
        if at in self._calls:
            self._calls.remove(at)


class TaskSlots:
    """At most `limit` tasks at once; a task holds its slot during the half-open [start, until)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._until: list[float] = []

    def taken(self, now: float) -> int:
        """How many tasks hold a slot at `now`."""
        self._until = [until for until in self._until if now < until]
        return len(self._until)

    def take(self, now: float, until: float) -> bool:
        """Take a slot from `now` to `until` (inf: for good), or say False if none is free."""
        if self.taken(now) >= self.limit:
            return False
        self._until.append(until)
        return True
