"""One fixture makes a stack of real processes; it is torn down whatever happens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from .callers import Caller
from .stack import Stack

Launch = Callable[..., Awaitable[Stack]]
Join = Callable[..., Caller]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def launch(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Launch]:
    """Starts a sandbox and a gateway in front of it."""
    stacks: list[Stack] = []

    async def start(**options: Any) -> Stack:
        stack = Stack(tmp_path, **options)
        stacks.append(stack)
        stack.write_config()
        await stack.start()
        return stack

    yield start
    for stack in stacks:
        stack.stop()


@pytest.fixture
async def join(anyio_backend: str) -> AsyncIterator[Join]:
    """Makes a caller with a key of its own. `retries`: how often its SDK repeats what failed."""
    async with AsyncExitStack() as clients:

        def joined(stack: Stack, name: str, retries: int = 0) -> Caller:
            key = stack.create_key(name)
            client = AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=retries)
            clients.push_async_callback(client.close)
            return Caller(name, client)

        yield joined
