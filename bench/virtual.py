"""One world on virtual time: providers, and in front of them the real gateway or a peer.

Real: the engine, the client of upstream above its transport, the ledger and its SQLite file, the
store of content; all on a folder in memory where there is one. Its disk always has room, and takes
no virtual time. A feeder keeps videos waiting, so that the backlog is never empty.
"""

import asyncio
import os
import random
import secrets
import shutil
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import orjson

from gateway.app import EVERYBODY, Gateway
from gateway.clock import Clock
from gateway.config import AccountSettings, Auth, Content, Polling, Server, Settings
from gateway.content.disk import Disk
from gateway.job import Event, Job, JobMoved, State
from gateway.ledger.knock import Door
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import accept
from gateway.upstream.client import Upstream
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import PLENTY, Machine, MachineClock

from .provider import Limits, Provider, Videos

BEGINS = 1_800_000_000.0
"""World time at the start, in Unix seconds: floats have the grain that they have in earnest."""

BACKLOG = 20
"""Videos that wait, and one more an account."""

HOST = "https://upstream.test"

_NO_TLS: Any = cache(ssl.create_default_context)


class World:
    """A virtual loop and `accounts` providers on it, all from one `seed`: what else would be random
    in this process follows it, too.
    """

    def __init__(
        self,
        seed: str,
        videos: Videos,
        latency: tuple[float, float],
        limits: Limits,
        accounts: int = 1,
    ) -> None:
        secrets._sysrand = Random(f"ids {seed}")  # type: ignore[attr-defined]
        random.seed(f"jitter {seed}")
        # Nothing is encrypted here, and each account would read all certificates twice.
        ssl.create_default_context = _NO_TLS
        self.loop = VirtualLoop(Random(f"threads {seed}"), BEGINS, 0.0)
        asyncio.set_event_loop(self.loop)
        self.providers = [
            Provider(Random(f"{seed} {number}"), self.loop.time, videos, latency, limits)
            for number in range(accounts)
        ]

    def run(self, work: Awaitable[None], marks: Sequence[tuple[float, Callable[[], None]]]) -> None:
        """Let `work` go on; call each of `marks` after so many hours. The last one is the end."""
        self.loop.run_until_complete(self._run(work, marks))

    async def _run(
        self, work: Awaitable[None], marks: Sequence[tuple[float, Callable[[], None]]]
    ) -> None:
        working = asyncio.ensure_future(work)
        for hours, reached in marks:
            left = BEGINS + hours * 3600 - self.loop.time()
            await asyncio.wait((working,), timeout=left)
            if working.done():
                await working
                raise RuntimeError("the work has ended, and never should have")
            reached()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


class Front:
    """The gateway in front of a world's providers, with what it is told of their `limits`. `work`:
    what its callers do, else a queue that is never empty.

    `completed`: by provider, when each task was here, on the virtual clock: the commit of its
    `completed`.
    """

    def __init__(
        self,
        world: World,
        folder: Path,
        polling: Polling,
        guard: float,
        limits: Limits,
        work: Callable[[Gateway], Awaitable[None]] | None = None,
    ) -> None:
        self._work = work or self._feed
        self._world = world
        self._numbers = {f"account-{i}": i for i in range(len(world.providers))}
        self.completed: list[dict[str, float]] = [{} for _ in world.providers]
        self.keys = {name: f"sk-of-upstream-{name}" for name in self._numbers}
        self._settings = Settings(
            server=Server(data_dir=folder),
            auth=Auth(mode="open"),
            accounts=[
                AccountSettings(
                    name=name,
                    base_url=HOST,
                    requests=limits.requests,
                    period=limits.period,
                    guard=guard,
                    concurrent=limits.concurrent,
                )
                for name in self._numbers
            ],
            polling=polling,
            content=Content(max_bytes=PLENTY),
        )
        self._failed: list[BaseException] = []

    async def run(self) -> None:
        """Until cancelled."""
        machine = Machine(self._world.loop.time, booted=BEGINS)

        def make_clock(offset: float) -> Clock:
            return MachineClock(machine, offset)

        def make_upstream(*args: Any) -> Upstream:
            provider = self._world.providers[self._numbers[args[0].name]]
            return partial(Upstream, transport=_Transport(provider))(*args)

        gateway = Gateway(
            self._settings,
            self.keys,
            machine.read_boot(),
            self._failed.append,
            make_door=Door,
            make_clock=make_clock,
            make_disk=_Roomy,
            make_upstream=make_upstream,
        )
        gateway.ledger.listen(self._note)
        async with gateway.life():
            await self._work(gateway)

    async def _feed(self, gateway: Gateway) -> None:
        await feed(gateway.ledger, gateway.clock, BACKLOG + len(self._numbers))

    def check(self) -> None:
        """Raise what ended the gateway, should anything have."""
        for error in self._failed:
            raise error

    def _note(self, event: Event) -> None:
        if isinstance(event, JobMoved) and event.job.state is State.COMPLETED:
            job = event.job
            here = self.completed[self._numbers[job.account or ""]]
            here[job.upstream_id or ""] = self._world.loop.time()


async def feed(ledger: Ledger, clock: Clock, backlog: int) -> None:
    """Keep so many jobs waiting. Until cancelled."""
    waiting = number = 0
    moved = asyncio.Event()

    def count(event: Event) -> None:
        nonlocal waiting
        if isinstance(event, JobMoved) and State.QUEUED in (event.before, event.job.state):
            waiting += (event.job.state is State.QUEUED) - (event.before is State.QUEUED)
            moved.set()

    ledger.listen(count)
    while True:
        moved.clear()
        wished = [make_job(number + i, clock) for i in range(backlog - waiting)]
        number += len(wished)
        await asyncio.gather(*(ledger.commit(accept(job)) for job in wished))
        await moved.wait()


def make_job(number: int, clock: Clock) -> Job:
    """A wish of its own."""
    return Job(
        id=f"video_{number:032x}",
        caller=f"caller_{EVERYBODY}",
        state=State.QUEUED,
        model="sora-2",
        size="1280x720",
        seconds=10,
        prompt=f"wish {number}: a cat that walks over a bridge in the rain, filmed from above",
        created_at=clock.wall(),
        accepted=clock.now(),
    )


class _Roomy(Disk):
    """The real disk, however small: what is measured here never fills one."""

    def free(self, folder: Path) -> int:
        return PLENTY


class _Transport(httpx.AsyncBaseTransport):
    """The way from one account's client to its provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.split("/")  # "", v1, videos, id, content
        kind = "submit" if request.method == "POST" else "poll"
        kind = "download" if path[-1] == "content" else kind
        await request.aread()
        status, body = await self._provider.call(kind, path[3] if len(path) > 3 else None)
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        if isinstance(body, bytes):
            headers |= {"content-type": "video/mp4", "etag": f'"{path[3]}"'}
        return httpx.Response(
            status, headers=headers, stream=httpx.ByteStream(content), request=request
        )


class Folder:
    """A folder of its own, in memory where there is one; gone afterwards."""

    def __enter__(self) -> Path:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._path = Path(tempfile.mkdtemp(prefix="video-gateway-bench-", dir=base))
        return self._path

    def __exit__(self, *_error: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
