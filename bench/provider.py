"""The provider of the measurements: exact limits, exact durations, no faults, and a record of every
call and task from which all figures are taken. Imports nothing of the gateway.

Its window is counted twice: by arrival, where a call too many is answered with 429, and by the end
of the answer, where a call too many is noted. A refused call does not count, unless the limits say
so. Both windows are half-open: calls exactly one period apart don't meet.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.stage import mp4

NO_LATENCY = (0.0, 0.0)
LATENCY = (0.3, 1.5)
"""Seconds a call takes, least and most, every length as likely; it arrives at any part of it."""

VIDEO = mp4()
"""Each video's content: what a call costs is measured elsewhere."""


@dataclass(frozen=True, slots=True)
class Videos:
    """How long generations take and what is told meanwhile. `mean` in seconds; `spread` is the
    standard deviation as a part of it.

    A spread up to 0.2 is that of a normal distribution, a larger one that of a lognormal one, both
    cut off (drawn again) below 0.2 and above 3 means. `progress`: exact (whole percent, rounded
    down), noisy (up to 2 more or less), jumping (one in ten is any number), stuck (at 0), none (the
    field is missing).
    """

    mean: float
    spread: float
    progress: str

    def draw(self, chance: Random) -> float:
        """One duration."""
        while True:
            if self.spread <= 0.2:
                seconds = chance.gauss(self.mean, self.spread * self.mean)
            else:
                variance = math.log1p(self.spread**2)
                middle = math.log(self.mean) - variance / 2
                seconds = chance.lognormvariate(middle, math.sqrt(variance))
            if 0.2 * self.mean <= seconds <= 3 * self.mean:
                return seconds

    def tell(self, chance: Random, elapsed: float, duration: float) -> dict[str, int]:
        """What a poll of an unfinished one says of its progress."""
        if self.progress == "none":
            return {}
        told = math.floor(100 * elapsed / duration)
        if self.progress == "noisy":
            told += chance.randint(-2, 2)
        if self.progress == "stuck":
            told = 0
        if self.progress == "jumping" and chance.random() < 0.1:
            told = chance.randrange(100)
        return {"progress": min(max(told, 0), 99)}


@dataclass(frozen=True, slots=True)
class Limits:
    """`requests` calls in `period` seconds, `concurrent` videos at once. `strict`: calls that were
    refused count, too; who never is refused does not feel it.
    """

    requests: int = 10
    period: float = 60.0
    concurrent: int = 5
    strict: bool = False


@dataclass(slots=True)
class Task:
    """One video. It takes a slot from `created` until `ends`, seconds both."""

    id: str
    created: float
    ends: float

    @property
    def duration(self) -> float:
        return self.ends - self.created


@dataclass(slots=True)
class Visit:
    """One call. `task` is the one it asks for, or the one it made. None: it has not come so far."""

    kind: str
    task: str | None
    sent: float
    arrived: float | None = None
    ended: float | None = None
    status: int | None = None
    tells_end: bool = False
    """A poll that was told that the video is there."""


class Window:
    """A window that counts what it is told of."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counted: deque[float] = deque()

    def room(self, now: float) -> int:
        """For how many calls."""
        while self._counted and now - self._counted[0] >= self._limits.period:
            self._counted.popleft()
        return max(self._limits.requests - len(self._counted), 0)

    def count(self, now: float) -> None:
        self._counted.append(now)


class Provider:
    """One account upstream. `now` is read in seconds; `visits` and `tasks` are its record."""

    def __init__(
        self,
        chance: Random,
        now: Callable[[], float],
        videos: Videos,
        latency: tuple[float, float],
        limits: Limits,
    ) -> None:
        self._chance = chance
        self._now = now
        self._videos = videos
        self._latency = latency
        self.limits = limits
        self._arrivals = Window(limits)
        self._ends = Window(limits)
        self._busy: list[Task] = []
        self.visits: list[Visit] = []
        self.tasks: dict[str, Task] = {}
        self.late_breaches = 0
        """Calls too many by the end of their answers."""

    async def call(self, kind: str, task: str | None = None) -> tuple[int, dict[str, Any] | bytes]:
        """One call from its first byte sent to the last byte of its answer: status and body."""
        visit = Visit(kind, task, self._now())
        self.visits.append(visit)
        seconds = self._chance.uniform(*self._latency)
        arrives = seconds * self._chance.random()
        await asyncio.sleep(arrives)
        visit.arrived = self._now()
        visit.status, body = self._answer(visit, visit.arrived)
        await asyncio.sleep(seconds - arrives)
        visit.ended = self._now()
        if visit.status != 429 or self.limits.strict:
            self.late_breaches += not self._ends.room(visit.ended)
            self._ends.count(visit.ended)
        return visit.status, body

    def _answer(self, visit: Visit, now: float) -> tuple[int, dict[str, Any] | bytes]:
        has_room = self._arrivals.room(now) > 0
        if has_room or self.limits.strict:
            self._arrivals.count(now)
        if not has_room:
            return 429, _refusal("too many requests")
        if visit.kind == "submit":
            self._busy = [task for task in self._busy if task.ends > now]
            if len(self._busy) >= self.limits.concurrent:
                return 429, _refusal("too many tasks at once")
        if visit.kind == "submit":
            return 200, self._create(visit, now)
        task = self.tasks.get(visit.task or "")
        if task is None or (visit.kind == "download" and now < task.ends):
            return 404, _refusal("no such video")
        if visit.kind == "download":
            return 200, VIDEO
        if now >= task.ends:
            visit.tells_end = True
            return 200, _object(task, "completed") | {"progress": 100}
        told = self._videos.tell(self._chance, now - task.created, task.duration)
        return 200, _object(task, "in_progress") | told

    def _create(self, visit: Visit, now: float) -> dict[str, Any]:
        duration = self._videos.draw(self._chance)
        task = Task(f"task_{len(self.tasks) + 1}", now, now + duration)
        self.tasks[task.id] = task
        self._busy.append(task)
        visit.task = task.id
        return _object(task, "submitted") | self._videos.tell(self._chance, 0.0, duration)


def _object(task: Task, status: str) -> dict[str, Any]:
    return {"id": task.id, "object": "video", "status": status}


def _refusal(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "code": "rate_limited"}}
