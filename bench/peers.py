"""Two programs that do without a gateway, each written as its author would honestly write it.

`naive`: five workers, first come first served, behind one exact window that all calls wait for in
turn. `sdk`: twenty callers of an SDK's `create_and_poll`, who know nothing of each other.
"""

import asyncio
from random import Random
from typing import Any

from .provider import Provider

POLL_EVERY = 30.0
"""Seconds between two polls of the naive one."""

CALLERS = 20
SDK_POLL_EVERY = 1.0
"""openai-python's, where the server does not say openai-poll-after-ms."""

RETRIES = 2
RETRY_FIRST, RETRY_MOST = 0.5, 8.0
"""Seconds before a retry, doubled each time, less up to a quarter at random: openai-python's."""


class Naive:
    """Submits, polls every 30 s, downloads. `completed`: when each task was here."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._places = asyncio.Semaphore(provider.limits.requests)
        self.completed: dict[str, float] = {}
        self.lost = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._provider.limits.concurrent):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            accepted = await self._call("submit")
            if accepted is None:  # nobody who keeps the limits is refused
                continue
            while True:
                await asyncio.sleep(POLL_EVERY)
                video = await self._call("poll", accepted["id"])
                if video is not None and video["status"] == "completed":
                    break
            await self._call("download", accepted["id"])
            self.completed[accepted["id"]] = asyncio.get_running_loop().time()

    async def _call(self, kind: str, task: str | None = None) -> Any:
        """Wait for a place, call, give the place back one period after the answer."""
        await self._places.acquire()
        status, body = await self._provider.call(kind, task)
        loop = asyncio.get_running_loop()
        loop.call_later(self._provider.limits.period, self._places.release)
        return body if status == 200 else None


class Sdk:
    """Twenty callers. `completed`: when each task was here; `lost`: submits given up."""

    def __init__(self, provider: Provider, chance: Random) -> None:
        self._provider = provider
        self._chance = chance
        self.completed: dict[str, float] = {}
        self.lost = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._wish())

    async def _wish(self) -> None:
        while True:
            accepted = await self._call("submit")
            if accepted is None:
                self.lost += 1
                continue
            while True:
                video = await self._call("poll", accepted["id"])
                if video is not None and video["status"] == "completed":
                    break
                await asyncio.sleep(SDK_POLL_EVERY)
            while await self._call("download", accepted["id"]) is None:
                await asyncio.sleep(SDK_POLL_EVERY)
            self.completed[accepted["id"]] = asyncio.get_running_loop().time()

    async def _call(self, kind: str, task: str | None = None) -> Any:
        """A call and its retries; None: given up."""
        for retry in range(RETRIES + 1):
            status, body = await self._provider.call(kind, task)
            if status == 200:
                return body
            if retry < RETRIES:
                wait = min(RETRY_FIRST * 2**retry, RETRY_MOST)
                await asyncio.sleep(wait * (1 - 0.25 * self._chance.random()))
        return None
