"""One fixture opens a sandbox inside the test; another is one with the default settings."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from gateway.sandbox import SandboxSettings, create_app

from .bench import KEY, Bench, HandClock, Open


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def open_bench(anyio_backend: str) -> AsyncIterator[Open]:
    """Opens a sandbox with the given settings; one frame a second keeps its movies cheap."""
    async with AsyncExitStack() as stack:

        def opened(**settings: Any) -> Bench:
            clock = HandClock()
            app = create_app(SandboxSettings(**{"video_fps": 1, **settings}), clock)
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(
                transport=transport, base_url="http://upstream.test", headers=KEY
            )
            stack.push_async_callback(client.aclose)
            return Bench(app.state.sandbox, clock, client)

        yield opened


@pytest.fixture
def bench(open_bench: Open) -> Bench:
    """A sandbox with the default settings."""
    return open_bench()
