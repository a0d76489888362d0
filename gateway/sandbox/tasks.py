"""A task's life: what its video object says at any moment.

Owns the states of one task and the times it changes them, all fixed when it is created: every
answer is a pure function of the moment. Never asks the time, and never knows of limits or HTTP.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from gateway.sandbox import faults
from gateway.sandbox.faults import Failure, Fault
from gateway.sandbox.settings import Vocabulary

Status = Literal["waiting", "in_progress", "completed", "failed"]

_WAITING_WORD: dict[Vocabulary, str] = {"apiyi": "submitted", "openai": "queued"}


@dataclass(frozen=True)
class Order:
    """What a valid submit asks for."""

    prompt: str
    model: str
    size: str
    seconds: str
    image: bytes | None = None
    """The input image, a PNG or JPEG, as it was sent."""


@dataclass(frozen=True)
class Task:
    """One video being made. Moments are virtual Unix seconds."""

    id: str
    prompt: str
    model: str
    size: str
    seconds: str
    created_at: float
    queue: float
    """Seconds it waits before it is worked on."""
    generation: float
    """Seconds the work takes, if nothing goes wrong."""
    earlier: int = 0
    """Tasks of the same prompt before it."""

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, _, height = self.size.partition("x")
        return int(width), int(height)

    @property
    def faults(self) -> frozenset[Fault]:
        """What its prompt ordered to go wrong."""
        return faults.ordered(self.prompt)

    @property
    def failure(self) -> Failure | None:
        """Why it will have failed; None if it will not."""
        return faults.failure(self.faults, self.earlier)

    @property
    def starts_at(self) -> float:
        """When it turns in_progress."""
        return self.created_at + self.queue

    @property
    def ends_at(self) -> float:
        """When it completes or fails (a failure comes half-way); inf if it hangs."""
        if Fault.HANG in self.faults:
            return math.inf
        return self.starts_at + self.generation * (0.5 if self.failure else 1.0)

    def status(self, now: float) -> Status:
        """Its state at `now`."""
        if now >= self.ends_at:
            return "failed" if self.failure else "completed"
        return "in_progress" if now >= self.starts_at else "waiting"

    def progress(self, now: float) -> int:
        """Share of the work done, 0 to 100; 100 is said of a completed task only."""
        if self.status(now) == "completed":
            return 100
        worked = min(now, self.ends_at) - self.starts_at
        return max(0, min(99, math.floor(100 * worked / self.generation)))

    def as_json(self, now: float, vocabulary: Vocabulary, content_url: str) -> dict[str, Any]:
        """The video object at `now`; `content_url` is told once there is content."""
        status = self.status(now)
        done = status == "completed"
        failed = self.failure if status == "failed" else None
        return {
            "id": self.id,
            "object": "video",
            "status": _WAITING_WORD[vocabulary] if status == "waiting" else status,
            "progress": self.progress(now),
            "prompt": self.prompt,
            "model": self.model,
            "size": self.size,
            "seconds": self.seconds,
            "created_at": int(self.created_at),
            "completed_at": int(self.ends_at) if done else None,
            "url": content_url if done else None,
            "error": {"code": failed.code, "message": failed.message} if failed else None,
        }
