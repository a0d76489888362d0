"""One stack of real processes for all clients; each visit has a caller, so a list, of its own."""

import asyncio
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance.stack import Stack
from PIL import Image

from .environments import CannotMake, make_all
from .line import Loss
from .visits import Sdk, Visit, Where

See = Callable[..., Visit]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to make the clients' environments while tests before these mostly wait."""
    wanted = any("see" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        threading.Thread(target=make_all).start()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A sandbox whose videos take half a second, and a gateway in front of it."""
    stack = Stack(tmp_path_factory.mktemp("compatibility"), generation=20.0)
    stack.write_config()
    try:
        asyncio.run(stack.start())
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def picture(stack: Stack) -> Path:
    """A PNG of 1280x720."""
    file = io.BytesIO()
    Image.new("RGB", (1280, 720), "teal").save(file, "PNG")
    path = stack.folder / "picture.png"
    path.write_bytes(file.getvalue())
    return path


@pytest.fixture(scope="session")
def see(stack: Stack, picture: Path) -> See:
    """Lets a client do a task; the same task of the same client is done once."""
    home = stack.folder / "home"
    home.mkdir()
    visits: dict[tuple[Sdk, str], Visit] = {}

    def seen(sdk: Sdk, task: str, losses: tuple[tuple[Loss, int], ...] = ()) -> Visit:
        if (sdk, task) not in visits:
            key = stack.create_key(f"caller-{len(visits)}")
            try:
                visits[sdk, task] = Where(stack.port, key, picture, home).visit(sdk, task, losses)
            except CannotMake as why:
                missing(str(why))
        return visits[sdk, task]

    return seen


def missing(why: str) -> None:
    """Skip for want of something on this machine; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
