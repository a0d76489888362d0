"""One fixture makes an upstream of a test's own, one the gateways in front of it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from stage import mp4

from .server import Server
from .upstream import Upstream

MakeServer = Callable[..., Server]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[Upstream]:
    """Holds POSTs and stops half-way until it is told otherwise."""
    async with Upstream(mp4(bytes(range(256)) * 4 * 1024 * 12)).serving() as upstream:
        yield upstream


@pytest.fixture
async def make_server(anyio_backend: str, tmp_path: Path) -> AsyncIterator[MakeServer]:
    """Makes a gateway in front of `url`, with further lines of its settings."""
    servers: list[Server] = []

    def make(url: str = "http://127.0.0.1:9", *lines: str, **how: Any) -> Server:
        folder = how.pop("folder", tmp_path)
        servers.append(Server(folder, url, *lines, **how))
        return servers[-1]

    yield make
    for server in servers:
        await server.stop()
