"""One server for all: what one request leaves behind meets the next."""

import asyncio
from collections.abc import Iterator

import pytest
from acceptance.stack import Stack

from .target import Target


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(Stack(tmp_path_factory.mktemp("fuzz")))
    try:
        asyncio.run(target.start())
        yield target
        assert target.complaints() == []
    finally:
        target.stack.stop()
