"""A sandbox without a network, at a time turned by hand, and a caller who speaks to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from gateway.sandbox.state import SandboxState

START = 1_750_000_000.0
KEY = {"Authorization": "sandbox-key"}


class HandClock:
    """Stands still until a test turns it."""

    def __init__(self) -> None:
        self.at = START
        self.sleepers: list[tuple[float, anyio.Event]] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            waking = (self.at + seconds, anyio.Event())
            self.sleepers.append(waking)
            await waking[1].wait()

    def turn(self, seconds: float) -> None:
        self.at += seconds
        for due, event in self.sleepers:
            if due <= self.at:
                event.set()
        self.sleepers = [sleeper for sleeper in self.sleepers if sleeper[0] > self.at]


@dataclass
class Bench:
    """A sandbox without a network, a clock to turn, and a caller who holds the key."""

    state: SandboxState
    clock: HandClock
    client: httpx.AsyncClient

    async def submit(
        self, prompt: str = "a cat", image: bytes | None = None, **changed: str
    ) -> httpx.Response:
        form = {"prompt": prompt, "model": "sora-2", "size": "1280x720", "seconds": "10", **changed}
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in form.items()]
        if image is not None:
            parts.append(("input_reference", ("image.png", image, "image/png")))
        return await self.client.post("/v1/videos", files=parts)

    async def created(self, prompt: str = "a cat", image: bytes | None = None) -> str:
        answer = await self.submit(prompt, image)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def completed(self, prompt: str = "a cat", image: bytes | None = None) -> str:
        """A task that is done; time is turned well past the window too."""
        video = await self.created(prompt, image)
        self.clock.turn(1000.0)
        return video

    async def poll(self, video: str) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/videos/{video}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def download(self, video: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(f"/v1/videos/{video}/content", headers=named)


Open = Callable[..., Bench]


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error an answer tells, after its status and shape are found right."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])
