"""Whoever writes beside the server knocks; nothing that is wrong with the door fails a command."""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket

import pytest
from sqlalchemy import Engine, event
from structlog.testing import capture_logs

from gateway.errors import StateConflict
from gateway.ledger.callers import add_caller
from gateway.ledger.database import FILE
from gateway.ledger.knock import NAME, Door, knock
from gateway.ledger.ledger import commit_beside
from gateway.ledger.transitions import Change

WALL = 1_700_000_000.0


@pytest.fixture(params=["shallow", "deep"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a ledger's file; the deep one's path is longer than a socket's may be."""
    names = ["x" * 100, "y" * 100] if request.param == "deep" else ["data"]
    path = tmp_path.joinpath(*names)
    path.mkdir(parents=True)
    (path / FILE).touch()
    return path


@contextmanager
def opened(folder: Path) -> Iterator[Door]:
    with capture_logs() as said:
        door = Door.open(folder)
    assert said == []
    try:
        yield door
    finally:
        door.close()


async def heard(door: Door) -> bool:
    """Whether somebody has knocked by now."""
    waiting = asyncio.create_task(door.knocked())
    for _ in range(5):  # what was sent is there already: the loop has to look, not to wait
        await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    await asyncio.wait((waiting,))
    return done


async def test_a_knock_is_heard_once(folder: Path, anyio_backend: str) -> None:
    with opened(folder) as door:
        assert not await heard(door)
        knock(folder)
        assert await heard(door)
        assert not await heard(door)


async def test_it_wakes_who_waits(folder: Path, anyio_backend: str) -> None:
    with opened(folder) as door:
        waiting = asyncio.create_task(door.knocked())
        await asyncio.sleep(0)
        knock(folder)
        await asyncio.wait_for(waiting, 20)


async def test_more_knocks_than_the_door_holds_wait_for_nobody_and_are_one(
    folder: Path, anyio_backend: str
) -> None:
    with opened(folder) as door:
        for _ in range(2000):
            knock(folder)
        assert await heard(door)
        assert not await heard(door)


def test_nobody_need_be_there(folder: Path) -> None:
    knock(folder / "none")
    knock(folder)
    (folder / NAME).write_bytes(b"")
    knock(folder)
    (folder / NAME).unlink()
    left_by_a_crash(folder)
    knock(folder)


async def test_the_socket_of_a_crash_is_replaced_and_an_orderly_end_leaves_none(
    folder: Path, anyio_backend: str
) -> None:
    left_by_a_crash(folder)
    with opened(folder) as door:
        knock(folder)
        assert await heard(door)
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_who_may_write_the_ledger_may_knock_and_nobody_else(
    folder: Path, mode: int, mask: int
) -> None:
    (folder / FILE).chmod(mode)
    before = os.umask(mask)
    try:
        with opened(folder):
            assert stat.S_IMODE((folder / NAME).stat().st_mode) == mode
    finally:
        os.umask(before)


async def test_where_no_socket_can_be_made_the_log_says_so_and_nobody_is_heard(
    folder: Path, anyio_backend: str
) -> None:
    (folder / NAME).mkdir()
    with capture_logs() as said:
        door = Door.open(folder)
    (line,) = said
    assert line["log_level"] == "warning"
    assert line["why"]
    knock(folder)
    assert not await heard(door)
    door.close()
    assert (folder / NAME).is_dir()


async def test_the_knock_comes_after_the_commit(tmp_path: Path, anyio_backend: str) -> None:
    commit_beside(tmp_path, add_caller("alice", WALL), WALL)
    with socket(AF_UNIX, SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / NAME))
        commits: list[bool] = []

        def at_commit(_conn: object) -> None:
            commits.append(has_come(listener))

        event.listen(Engine, "commit", at_commit)
        try:
            commit_beside(tmp_path, add_caller("bob", WALL), WALL)
        finally:
            event.remove(Engine, "commit", at_commit)
        assert commits
        assert not any(commits)
        assert has_come(listener)
        assert not has_come(listener)


async def test_what_is_not_committed_is_not_knocked_for(tmp_path: Path, anyio_backend: str) -> None:
    def refused(_conn: object) -> Change:
        raise StateConflict("no")

    commit_beside(tmp_path, add_caller("alice", WALL), WALL)
    with socket(AF_UNIX, SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / NAME))
        with pytest.raises(StateConflict):
            commit_beside(tmp_path, refused, WALL)
        assert not has_come(listener)


def has_come(listener: socket) -> bool:
    try:
        listener.recv(1)
    except BlockingIOError:
        return False
    return True


def left_by_a_crash(folder: Path) -> None:
    """A socket at which nobody listens any more."""
    descriptor = os.open(folder, os.O_RDONLY)
    with socket(AF_UNIX, SOCK_DGRAM) as listener:
        listener.bind(f"/proc/self/fd/{descriptor}/{NAME}")
    os.close(descriptor)
