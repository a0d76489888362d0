"""Serving a sandbox over real HTTP, alone or inside somebody else's event loop.

Owns the socket and uvicorn's settings. Never prints on standard output: uvicorn's own words go to
the log, on standard error when it runs alone.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import uvicorn

from gateway.sandbox import movie
from gateway.sandbox.app import create_app
from gateway.sandbox.clock import Clock
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.state import SandboxState

_GRACE = 1
"""Real seconds that calls under way get when a sandbox in a test or demo stops."""


@dataclass(frozen=True)
class Running:
    """A sandbox that answers at `url` (no slash at its end)."""

    url: str
    state: SandboxState


def serve(settings: SandboxSettings, host: str, port: int) -> None:
    """Run a sandbox until SIGINT or SIGTERM; port 0 takes a free one, named in the log."""
    movie.check_installed()
    uvicorn.run(create_app(settings), host=host, port=port, access_log=False)


@asynccontextmanager
async def running(
    settings: SandboxSettings,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """Serve a sandbox from the running asyncio loop for as long as the block lasts."""
    movie.check_installed()
    app = create_app(settings, clock)
    with socket.create_server((host, port), backlog=2048) as listening:
        bound = listening.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=_GRACE,
        )
        server = _Guest(config)
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield Running(f"http://{host}:{bound}", app.state.sandbox)
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await serving


class _Guest(uvicorn.Server):
    """A server that leaves the signals to the program it is a guest of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
