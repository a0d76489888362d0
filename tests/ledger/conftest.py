"""One fixture makes a ledger."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.clock import Boot
from gateway.errors import LedgerBroken
from gateway.ledger.ledger import Ledger

from .bench import BOOT, WALL, WINDOWS, with_alice

MakeLedger = Callable[..., Awaitable[Ledger]]


@pytest.fixture
def broken() -> list[LedgerBroken]:
    """What the ledgers of this test said when they could go on no longer."""
    return []


@pytest.fixture
async def open_ledger(
    anyio_backend: str, tmp_path: Path, broken: list[LedgerBroken]
) -> AsyncIterator[MakeLedger]:
    """Opens this test's ledger and starts its writer; again, after `close`, for a restart."""
    async with AsyncExitStack() as stack:

        async def make(
            boot: Boot = BOOT,
            windows: dict[str, float] = WINDOWS,
            upstreams: dict[str, str] | None = None,
        ) -> Ledger:
            ledger = Ledger.open(tmp_path, boot, windows, None, upstreams or {})
            ledger.start(lambda: WALL, broken.append)
            stack.push_async_callback(ledger.close)
            return await with_alice(ledger)

        yield make


@pytest.fixture
async def ledger(open_ledger: MakeLedger) -> Ledger:
    """A new ledger that knows one caller, alice."""
    return await open_ledger()
