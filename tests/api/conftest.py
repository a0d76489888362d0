"""A gateway whose engine makes no call: what the callers' side does by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeGateway
from stage import House, create_key, settings_for
from upstream.bench import Server, http, serving

from gateway.cli.serve import build_server

from .served import Serve, Served


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[Server]:
    """An upstream that serves nobody, and notes who asked."""
    async with serving(http(503, {"error": {"message": "come back later"}})) as server:
        yield server


@pytest.fixture
async def house(make_gateway: MakeGateway, upstream: Server) -> House:
    """A gateway whose jobs stay as they are."""
    house = await make_gateway(upstream.url)
    house.gateway.stop_calls()
    return house


@pytest.fixture
async def serve(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a gateway on a port, whose jobs stay as they are."""
    running = []

    async def start(**sections: Any) -> Served:
        told = {"server": {"port": 0, "grace": 1}} | sections
        settings = settings_for("http://upstream.invalid", tmp_path, **told)
        server = build_server(settings, {"default": "sandbox-key"})
        task = asyncio.create_task(server.serve())
        assert await server.wait_started(task)
        server.gateway.stop_calls()
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Served(server.gateway, port, create_key(tmp_path, "alice"))
        running.append((server, task, served))
        return served

    yield start
    for server, task, served in running:
        await served.hang_up()
        server.should_exit = True
        await task
        assert server.exit_status == 0
