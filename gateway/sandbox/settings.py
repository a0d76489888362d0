"""Settings of the sandbox: each one declared once, with its unit and its default.

Owns the numbers a sandbox is started with, and refuses those that make no sense. Never reads a
file or the environment; whoever starts the sandbox does.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Vocabulary = Literal["apiyi", "openai"]
"""Whose word is used for a task that waits: `submitted` (apiyi) or `queued` (openai)."""

Counting = Literal["arrival", "end"]
"""When a call takes its place in the window: as it arrives, or once its answer has ended."""


@dataclass(frozen=True)
class SandboxSettings:
    """How the stand-in behaves. Every duration is in virtual seconds, see `speed`.

    The limits are those of the provider's "Sora 2 Async API" page: 10 requests a minute, 5 tasks at
    once, 3 to 5 minutes a video, content kept for about a day.
    """

    api_key: str = "sandbox-key"
    """The one key that is accepted."""
    auth_scheme: str = ""
    """Word wanted before the key in `Authorization`; empty: the bare key, and nothing else."""
    vocabulary: Vocabulary = "apiyi"
    requests: int = 10
    """Calls of any kind answered within one `period`; more get 429."""
    period: float = 60.0
    count: Counting = "arrival"
    concurrent: int = 5
    """Unfinished tasks at once; one more gets 429."""
    generation: float = 240.0
    """Mean seconds from in_progress to completed."""
    spread: float = 0.15
    """Standard deviation of the generation time, as a share of its mean."""
    queue_seconds: float = 5.0
    """Seconds a task waits before it is in_progress."""
    ttl: float = 86_400.0
    """Seconds a finished video can be downloaded; later its content answers 404."""
    latency: tuple[float, float] = (0.0, 0.0)
    """Least and most seconds added to a call; a random part of them before it is counted."""
    seed: int = 0
    """Of every random draw; the same seed and clock give the same behaviour."""
    speed: float = 1.0
    """Virtual seconds that pass in one real second."""
    video_fps: int = 8
    """Frames a second of the videos made."""

    def __post_init__(self) -> None:
        if not self.api_key:
            raise ValueError("api_key must not be empty")
        if self.vocabulary not in get_args(Vocabulary):
            raise ValueError(f"vocabulary must be one of {get_args(Vocabulary)}")
        if self.count not in get_args(Counting):
            raise ValueError(f"count must be one of {get_args(Counting)}")
        for name in ("requests", "concurrent", "video_fps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("period", "generation", "speed"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be more than 0")
        for name in ("spread", "queue_seconds", "ttl"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")
        least, most = self.latency
        if not 0 <= least <= most < math.inf:
            raise ValueError("latency must be two durations, the lesser first")
