"""One fixture makes an upstream, one a gateway in front of it, one a caller of that."""

import logging
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, settings
from stage import GENERATION, SPEED, Caller, House, create_key, settings_for

from gateway.ledger.database import FILE, open_database
from gateway.sandbox import Running, SandboxSettings, running

# A loaded machine is no failure, and a run leaves nothing behind in the folder.
settings.register_profile(
    "steady", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

MakeUpstream = Callable[..., Awaitable[Running]]
MakeGateway = Callable[..., Awaitable[House]]
MakeCaller = Callable[..., Caller]


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The hundreds of processes that tests start share what Python compiles, also where it may
    leave nothing beside the code: else half of each start is spent on compiling. The first one
    compiles all packages, which must not eat up a test's deadline.
    """
    with pytest.MonkeyPatch.context() as patched:
        if sys.dont_write_bytecode:
            patched.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patched.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("compiled")))
            command = [sys.executable, "-m", "gateway", "--help"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def make_upstream(anyio_backend: str) -> AsyncIterator[MakeUpstream]:
    """Serves a sandbox on a port of its own, or on `port`."""
    async with AsyncExitStack() as stack:

        async def make(port: int = 0, **settings: Any) -> Running:
            told = {"speed": SPEED, "generation": GENERATION, "video_fps": 1} | settings
            return await stack.enter_async_context(running(SandboxSettings(**told), port=port))

        yield make


@pytest.fixture
async def upstream(make_upstream: MakeUpstream) -> Running:
    """A sandbox with the provider's limits."""
    return await make_upstream()


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger's file that was migrated once for all tests."""
    folder = tmp_path_factory.mktemp("ledger")
    open_database(folder).dispose()
    return folder / FILE


@pytest.fixture
async def make_gateway(
    anyio_backend: str, tmp_path: Path, empty_ledger: Path
) -> AsyncIterator[MakeGateway]:
    """Starts a gateway in front of `url`; sections of its settings may be given by name."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with AsyncExitStack() as stack:
        stack.callback(structlog.reset_defaults)

        async def make(url: str, **sections: Any) -> House:
            house = House(settings_for(url, tmp_path / "data", **sections))
            house.folder.mkdir()
            shutil.copy(empty_ledger, house.folder)
            await house.start()
            stack.push_async_callback(house.stop)
            return house

        yield make


@pytest.fixture
async def house(make_gateway: MakeGateway, upstream: Running) -> House:
    """A gateway in front of the sandbox."""
    return await make_gateway(upstream.url)


@pytest.fixture
async def make_caller(anyio_backend: str) -> AsyncIterator[MakeCaller]:
    """Makes a caller of a gateway, with a key of its own."""
    async with AsyncExitStack() as stack:

        def make(house: House, name: str = "alice", **headers: str) -> Caller:
            key = create_key(house.folder, name)
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(house.app),
                base_url="http://gateway.test",
                headers={"authorization": f"Bearer {key}", **headers},
            )
            stack.push_async_callback(client.aclose)
            return Caller(client)

        yield make


@pytest.fixture
def caller(make_caller: MakeCaller, house: House) -> Caller:
    """A caller of the gateway."""
    return make_caller(house)
