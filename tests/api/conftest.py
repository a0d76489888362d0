"""A gateway whose engine makes no call: what the callers' side does by itself."""

from collections.abc import AsyncIterator

import pytest
from conftest import MakeGateway
from stage import House
from upstream.bench import Server, http, serving


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
