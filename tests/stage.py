"""What the fixtures of `conftest.py` hand out: a gateway whose lifespan runs inside the test, and a
caller of it.

All seconds are those of a clock that runs `SPEED` times as fast, for the gateway and its upstream
alike.
"""

import asyncio
import io
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
from PIL import Image

from gateway.app import Gateway
from gateway.clock import Boot, read_boot
from gateway.config import (
    AccountSettings,
    Auth,
    Content,
    Limits,
    Polling,
    Requests,
    Server,
    Settings,
    Timeouts,
)
from gateway.keys import digest, new_key
from gateway.ledger.callers import add_key
from gateway.ledger.ledger import commit_beside

SPEED = 200.0
GENERATION = 30.0
UPSTREAM_KEY = "sandbox-key"
FINAL = ("completed", "failed")


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until `condition` holds, and give back what it said. Fails past the deadline."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found


def held_open(name: str, pid: int | str = "self") -> int:
    """How many files with `name` in theirs a process holds open."""
    held = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            held += name in os.readlink(each)
    return held


def settings_for(url: str, folder: Path, **sections: dict[str, Any]) -> Settings:
    """Settings of a gateway in `folder` whose upstream is `url`; `sections` outweigh. `accounts`:
    what each has beside that, by name, where there are several.
    """
    account = {"base_url": url, "period": 60 / SPEED, "guard": 0.05} | sections.get("account", {})
    several = [account | {"name": name} | own for name, own in sections.get("accounts", {}).items()]
    polling = {
        "interval": 30 / SPEED,
        "expected": GENERATION / SPEED,
        "max_wait": 600 / SPEED,
        "task_life": 3600 / SPEED,
    } | sections.get("polling", {})
    return Settings(
        server=Server(**{"data_dir": folder, "grace": 5} | sections.get("server", {})),
        auth=Auth(**sections.get("auth", {})),
        accounts=[AccountSettings(**each) for each in several or [account]],
        polling=Polling(**polling),
        timeouts=Timeouts(**sections.get("timeouts", {})),
        content=Content(**sections.get("content", {})),
        requests=Requests(**sections.get("requests", {})),
        limits=Limits(**sections.get("limits", {})),
    )


def create_key(folder: Path, name: str) -> str:
    """A new key, made beside a running server or without one, as the command line does it."""
    key = new_key()
    commit_beside(folder, add_key(name, f"key_{token_hex(8)}", digest(key), time.time()), 0.0)
    return key


class House:
    """A gateway on one folder. `stop` it and `start` it again: it goes on."""

    def __init__(self, settings: Settings, key: str = UPSTREAM_KEY) -> None:
        self.settings = settings
        self.folder = settings.server.data_dir
        self.fatal: list[BaseException] = []
        self._keys = {account.name: key for account in settings.accounts}
        self._lifespan: _Lifespan | None = None

    async def start(
        self, boot: Boot | None = None, prepare: Callable[[Gateway], None] | None = None
    ) -> None:
        """`prepare` is given the gateway before it begins."""
        self.gateway = Gateway(self.settings, self._keys, boot or read_boot(), self.fatal.append)
        if prepare is not None:
            prepare(self.gateway)
        self.app = self.gateway.app
        self.ledger = self.gateway.ledger
        self._lifespan = _Lifespan(self.app)
        await self._lifespan.start()

    async def stop(self) -> None:
        if self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            await lifespan.stop()

    def job(self, video_id: str) -> Any:
        """The job as the ledger has it."""
        return self.ledger.job(video_id)

    @property
    def account(self) -> Any:
        """How the one account fares."""
        return self.ledger.live.books["default"].account


class _Lifespan:
    """Speaks ASGI's lifespan protocol with an application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(self._app(scope, self._told.get, self._heard.put))
        await self._exchange("startup")

    async def stop(self) -> None:
        await self._exchange("shutdown")
        await self._task

    async def _exchange(self, step: str) -> None:
        await self._told.put({"type": f"lifespan.{step}"})
        message = await self._heard.get()
        if message["type"] != f"lifespan.{step}.complete":
            await self._task  # raises what went wrong
            raise AssertionError(message)


class Caller:
    """Someone with a key, and an HTTP client to use it with."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, prompt: str = "a cat", image: bytes | None = None, **fields: str) -> Any:
        """POST /v1/videos as a multipart form; its answer."""
        values = {"prompt": prompt, **fields}
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in values.items()]
        if image is not None:
            parts.append(("input_reference", ("image", image)))
        return await self.http.post("/v1/videos", files=parts)

    async def create(self, prompt: str = "a cat", image: bytes | None = None, **fields: str) -> str:
        """A new video's id."""
        answer = await self.post(prompt, image, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def video(self, video_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/videos/{video_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def finished(self, video_id: str, seconds: float = 25.0) -> dict[str, Any]:
        """The video once it is completed or failed."""
        async with asyncio.timeout(seconds):
            while (video := await self.video(video_id))["status"] not in FINAL:
                await asyncio.sleep(0.01)
        return video

    async def content(self, video_id: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(f"/v1/videos/{video_id}/content", headers=named)


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 36)) -> bytes:
    """A small image that is not all of one colour."""
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size)
    Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.ROTATE_180), gradient)).save(
        file, kind
    )
    return file.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    """One box of an MP4."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def mp4(filling: bytes = b"x" * 1000) -> bytes:
    """The boxes of an MP4, its media data being `filling`."""
    return box(b"ftyp", b"isom\0\0\2\0mp42") + box(b"mdat", filling) + box(b"moov", b"\0" * 100)
