"""What one sandbox knows: its tasks, its limits, its record, its random draws.

Owns all that changes while the sandbox runs, in memory only. Each method decides and does in one
go, without awaiting, so that no two calls can share the last place. Never speaks HTTP.
"""

import hashlib
import random
from collections import Counter
from typing import Any

from gateway.sandbox import record as records
from gateway.sandbox.clock import Clock
from gateway.sandbox.faults import SERVER_ERRORS, Delivery, Fault, delivery
from gateway.sandbox.limits import SlidingWindow, TaskSlots
from gateway.sandbox.record import Created, Record
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.studio import Studio
from gateway.sandbox.tasks import Order, Task

_LEAST_GENERATION = 0.2
"""Shortest generation, as a share of the mean, however far the spread would take it."""


class SandboxState:
    """The one mutable thing behind an app; tests read `record`, `tasks` and `clock`."""

    def __init__(self, settings: SandboxSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.record = Record()
        self.tasks: dict[str, Task] = {}
        self.window = SlidingWindow(settings.requests, settings.period)
        self.slots = TaskSlots(settings.concurrent)
        self.studio = Studio(settings.video_fps)
        self._spoilt: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._downloads: Counter[str] = Counter()
        self._drawn: list[Task] = []
        self._generations = random.Random(f"{settings.seed} generation")  # noqa: S311
        self._latencies = random.Random(f"{settings.seed} latency")  # noqa: S311

    def spoils(self, prompt: str) -> bool:
        """Whether a POST of this prompt, which ordered it, is one of the first to answer 500."""
        self._spoilt[prompt] += 1
        return self._spoilt[prompt] <= SERVER_ERRORS

    def create(self, order: Order, call: int) -> Task | None:
        """A new task for a submit; None if all slots are taken."""
        now = self.clock.now()
        self._sweep(now)
        task = Task(
            id=self._new_id(now),
            prompt=order.prompt,
            model=order.model,
            size=order.size,
            seconds=order.seconds,
            created_at=now,
            queue=self.settings.queue_seconds,
            generation=self._draw_generation(),
            earlier=self._asked[order.prompt],
        )
        if not self.slots.take(now, task.ends_at):
            return None
        self._asked[order.prompt] += 1
        self.tasks[task.id] = task
        self.record.add(Created(call, now, task.id, task.prompt, task.ends_at))
        if order.image is not None and task.failure is None and Fault.HANG not in task.faults:
            self.studio.hold(task, order.image)
            self._drawn.append(task)
        return task

    def has_content(self, task: Task, now: float) -> bool:
        """Whether the task is completed and its content not expired."""
        return task.status(now) == "completed" and now < task.ends_at + self.settings.ttl

    def next_delivery(self, task: Task) -> Delivery:
        """How this download of a finished task goes; counts it."""
        self._downloads[task.id] += 1
        return delivery(task.faults, self._downloads[task.id] - 1)

    def draw_latency(self) -> tuple[float, float]:
        """Seconds a call takes before it arrives, and before it is answered."""
        latency = self._latencies.uniform(*self.settings.latency)
        before = latency * self._latencies.random()
        return before, latency - before

    def as_json(self) -> dict[str, Any]:
        """The record, its figures, and every video; moments are virtual Unix seconds."""
        settings, now = self.settings, self.clock.now()
        return {
            "now": now,
            "settings": {
                "requests": settings.requests,
                "period": settings.period,
                "count": settings.count,
                "concurrent": settings.concurrent,
                "speed": settings.speed,
            },
            "figures": records.figures(self.record, settings.period),
            "videos": {
                task.id: {
                    "prompt": task.prompt,
                    "status": task.status(now),
                    "sha256": self.studio.sha256(task),
                }
                for task in self.tasks.values()
            },
            "events": [records.event_as_json(event) for event in self.record],
        }

    def _draw_generation(self) -> float:
        mean = self.settings.generation
        drawn = self._generations.gauss(mean, mean * self.settings.spread)
        return max(_LEAST_GENERATION * mean, drawn)

    def _new_id(self, now: float) -> str:
        """Never the same in two runs, whose clocks differ: an id seen before looks like a fault."""
        name = f"{self.settings.seed} {now!r} {len(self.tasks)}"
        return "video_" + hashlib.sha256(name.encode()).hexdigest()[:12]

    def _sweep(self, now: float) -> None:
        """Forget the images of tasks whose content has expired."""
        for task in [task for task in self._drawn if now >= task.ends_at + self.settings.ttl]:
            self.studio.drop(task)
            self._drawn.remove(task)
