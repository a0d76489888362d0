"""The store of finished videos, on a real disk."""

import errno
import hashlib
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from diskcache.core import MODE_BINARY, MODE_PICKLE, MODE_RAW
from stage import mp4

from gateway.content import videos as module
from gateway.content.videos import VideoStore, _VideoDisk
from gateway.errors import NotAVideo, StartError, StoreUnreadable

VIDEO = mp4()
SHA256 = hashlib.sha256(VIDEO).hexdigest()


def opened(folder: Path, max_bytes: int = 10**10, video_bytes: int = 10**9) -> VideoStore:
    return VideoStore(folder, "this boot", max_bytes, video_bytes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VideoStore]:
    store = opened(tmp_path)
    yield store
    store.close()


async def keep(store: VideoStore, key: str, content: bytes = VIDEO) -> Any:
    part = await store.begin(key)
    await part.restart(None)
    await part.write(content)
    return await store.keep(part, length_known=False)


async def content(store: VideoStore, key: str) -> bytes | None:
    file = await store.open(key)
    if file is None:
        return None
    with file:
        return file.read()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "videos").glob("*/*.mp4"))


def index(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "videos" / "cache.db", isolation_level=None)


async def test_a_video_is_kept(tmp_path: Path, store: VideoStore) -> None:
    stored = await keep(store, "video_1")
    assert (stored.sha256, stored.size) == (SHA256, len(VIDEO))
    assert await content(store, "video_1") == VIDEO
    assert await content(store, "video_2") is None
    assert list((tmp_path / "parts").iterdir()) == []


async def test_it_is_adopted_without_a_copy(tmp_path: Path, store: VideoStore) -> None:
    part = await store.begin("video_1")
    await part.write(VIDEO)
    await part.flush()
    inode = part.path.stat().st_ino
    await store.keep(part, length_known=True)
    (file,) = files(tmp_path)
    assert file.stat().st_ino == inode


async def test_it_is_on_the_disk_before_it_is_in_the_index(
    tmp_path: Path, store: VideoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's bytes, then its name in the folder, then the row."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def row_is_there() -> bool:
        with closing(index(tmp_path)) as conn:
            return conn.execute("SELECT count(*) FROM Cache").fetchone()[0] > 0

    def noted_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(f"fsync {path.suffix or 'folder'}")
        assert not row_is_there()
        fsync(descriptor)

    def noted_replace(source: Any, target: Any) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    await keep(store, "video_1")
    assert done == ["fsync .part", "fsync folder", "rename", "fsync folder"]
    assert row_is_there()


async def test_a_new_process_finds_it(tmp_path: Path, store: VideoStore) -> None:
    await keep(store, "video_1")
    store.close()
    program = (
        "import asyncio, sys, pathlib\n"
        "from gateway.content.videos import VideoStore\n"
        "store = VideoStore(pathlib.Path(sys.argv[1]), 'b', 10**9, 10**9)\n"
        "sys.stdout.buffer.write(asyncio.run(store.open('video_1')).read())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == VIDEO


async def test_an_open_reader_survives_deletion(tmp_path: Path, store: VideoStore) -> None:
    await keep(store, "video_1")
    file = await store.open("video_1")
    assert file is not None
    with file:
        assert await store.sweep(set().__contains__) == ["video_1"]
        assert files(tmp_path) == []
        assert file.read() == VIDEO
    assert await store.open("video_1") is None


async def test_a_file_that_went_away_is_simply_not_there(tmp_path: Path, store: VideoStore) -> None:
    await keep(store, "video_1")
    files(tmp_path)[0].unlink()
    assert await store.open("video_1") is None


async def test_fetched_again_it_takes_the_place_of_the_first(
    tmp_path: Path, store: VideoStore
) -> None:
    await keep(store, "video_1", mp4(b"first"))
    await keep(store, "video_1", mp4(b"second"))
    assert await content(store, "video_1") == mp4(b"second")
    assert len(files(tmp_path)) == 1


async def test_nothing_is_ever_evicted(tmp_path: Path) -> None:
    """diskcache's own culling would delete once a gigabyte is passed, or here a kilobyte."""
    store = opened(tmp_path, max_bytes=1000)
    for number in range(30):
        await keep(store, f"video_{number}")
    with closing(index(tmp_path)) as conn:
        settings = dict(conn.execute("SELECT key, value FROM Settings"))
    assert settings["eviction_policy"] == "none"
    assert settings["cull_limit"] == 0
    assert len(files(tmp_path)) == 30
    for number in range(30):
        assert await content(store, f"video_{number}") == VIDEO
    store.close()


def test_an_index_that_is_damaged_ends_the_start(tmp_path: Path) -> None:
    opened(tmp_path).close()
    for path in (tmp_path / "videos").glob("cache.db*"):
        path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StartError, match="the index of videos"):
        opened(tmp_path)


@pytest.mark.parametrize("cut", [VIDEO[:-1], b"<html></html>" * 5, b""])
async def test_what_is_not_whole_is_never_stored(
    tmp_path: Path, store: VideoStore, cut: bytes
) -> None:
    with pytest.raises(NotAVideo):
        await keep(store, "video_1", cut)
    assert await store.open("video_1") is None
    assert files(tmp_path) == []


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class TestPlanted:
    """A pickle that somebody put into the index is refused, and never run."""

    @pytest.fixture
    def bomb(self, tmp_path: Path) -> bytes:
        data = pickle.dumps(Bomb(tmp_path / "it ran"))
        pickle.loads(data)
        (tmp_path / "it ran").unlink()
        return data

    async def test_as_a_value(self, tmp_path: Path, store: VideoStore, bomb: bytes) -> None:
        await keep(store, "video_1")
        with closing(index(tmp_path)) as conn:
            planted = "UPDATE Cache SET mode = ?, value = ?, filename = NULL"
            conn.execute(planted, (MODE_PICKLE, bomb))
        with pytest.raises(TypeError):
            await store.open("video_1")
        assert not (tmp_path / "it ran").exists()

    async def test_as_a_file(self, tmp_path: Path, store: VideoStore, bomb: bytes) -> None:
        await keep(store, "video_1")
        files(tmp_path)[0].write_bytes(bomb)
        with closing(index(tmp_path)) as conn:
            conn.execute("UPDATE Cache SET mode = ?", (MODE_PICKLE,))
        with pytest.raises(TypeError):
            await store.open("video_1")
        assert not (tmp_path / "it ran").exists()

    async def test_as_a_key(self, tmp_path: Path, store: VideoStore, bomb: bytes) -> None:
        await keep(store, "video_1")
        with closing(index(tmp_path)) as conn:
            conn.execute("UPDATE Cache SET key = ?, raw = 0", (bomb,))
        with pytest.raises(TypeError):
            await store.sweep({"video_1"}.__contains__)
        assert not (tmp_path / "it ran").exists()

    @pytest.mark.parametrize("mode", [MODE_RAW, 3, 5])
    async def test_other_modes(self, tmp_path: Path, store: VideoStore, mode: int) -> None:
        await keep(store, "video_1")
        with closing(index(tmp_path)) as conn:
            conn.execute("UPDATE Cache SET mode = ?", (mode,))
        with pytest.raises(TypeError):
            await store.open("video_1")

    @pytest.mark.parametrize("value", [{"a": 1}, b"bytes", "text", 7])
    def test_nothing_but_a_finished_file_goes_in(self, store: VideoStore, value: object) -> None:
        with pytest.raises(TypeError):
            store._cache.set("video_1", value)

    @pytest.mark.parametrize("key", [7, b"video_1", ("video_1",), None])
    def test_under_no_key_but_a_name(self, tmp_path: Path, store: VideoStore, key: object) -> None:
        with pytest.raises(TypeError):
            store._cache.set(key, tmp_path / "file")


class TestRecovery:
    async def test_a_crash_between_the_renaming_and_the_index(
        self, tmp_path: Path, store: VideoStore
    ) -> None:
        await keep(store, "video_1")
        with closing(index(tmp_path)) as conn:
            conn.execute("DELETE FROM Cache")
        (tmp_path / "parts" / "video_1.json").write_text("{}")
        assert await store.open("video_1") is None
        stored = await store.recover("video_1")
        assert stored is not None
        assert (stored.sha256, stored.size) == (SHA256, len(VIDEO))
        assert await content(store, "video_1") == VIDEO
        assert len(files(tmp_path)) == 1
        assert list((tmp_path / "parts").iterdir()) == []

    async def test_a_crash_after_the_index(self, store: VideoStore) -> None:
        await keep(store, "video_1")
        stored = await store.recover("video_1")
        assert stored is not None
        assert stored.sha256 == SHA256

    async def test_nothing_to_recover(self, store: VideoStore) -> None:
        await keep(store, "video_10")
        assert await store.recover("video_1") is None

    async def test_bytes_that_rotted_are_not_adopted(
        self, tmp_path: Path, store: VideoStore
    ) -> None:
        await keep(store, "video_1")
        files(tmp_path)[0].write_bytes(VIDEO[:-1] + b"!")
        with pytest.raises(NotAVideo):
            await store.recover("video_1")


class TestSweep:
    async def test_what_nobody_wants_goes_and_the_rest_stays(
        self, tmp_path: Path, store: VideoStore
    ) -> None:
        for key in ("wanted", "unwanted", "orphan"):
            await keep(store, key)
        with closing(index(tmp_path)) as conn:
            conn.execute("DELETE FROM Cache WHERE key = 'orphan'")
        for name in ("wanted-part.part", "wanted-part.json", "other.part", "other.json"):
            (tmp_path / "parts" / name).write_bytes(b"x")
        swept = await store.sweep({"wanted", "wanted-part"}.__contains__)
        assert sorted(swept) == ["orphan", "unwanted"]
        assert await content(store, "wanted") == VIDEO
        (left,) = files(tmp_path)
        assert left.name.startswith("wanted-")
        parts = sorted(path.name for path in (tmp_path / "parts").iterdir())
        assert parts == ["wanted-part.json", "wanted-part.part"]


class TestRoom:
    def test_videos_are_taken_to_be_of_a_usual_size(self, tmp_path: Path) -> None:
        store = opened(tmp_path, max_bytes=3 * module.TYPICAL + 1_000_000)
        assert store.has_room(0)
        assert store.has_room(3)
        assert not store.has_room(4)
        store.close()

    async def test_what_is_kept_takes_its_room(self, tmp_path: Path) -> None:
        store = opened(tmp_path, max_bytes=module.TYPICAL + 1_000_000)
        assert store.has_room(1)
        await keep(store, "video_1", mp4(bytes(2_000_000)))
        assert not store.has_room(1)
        store.close()

    async def test_the_largest_seen_tells_what_the_next_may_need(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = opened(tmp_path, max_bytes=100_000_000)
        assert store.has_room(1)
        await keep(store, "video_1", mp4(bytes(60_000_000)))
        assert not store.has_room(1)
        store.close()

    def test_the_disk_keeps_a_reserve(self, tmp_path: Path, monkeypatch) -> None:
        store = opened(tmp_path)
        usage = type("Usage", (), {"free": module.SPARE + module.TYPICAL})
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
        assert store.has_room(1)
        assert not store.has_room(2)
        store.close()


async def test_a_video_that_can_not_be_read_now_is_not_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _VideoDisk(str(tmp_path))

    def no_descriptors(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("builtins.open", no_descriptors)
    with pytest.raises(StoreUnreadable):
        disk.fetch(MODE_BINARY, "ab/video-1.mp4", None, read=True)


@pytest.mark.parametrize("name", ["videos", "parts"])
def test_a_file_where_its_folder_should_be_ends_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StartError, match="can't be used: ") as refused:
        opened(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


async def test_an_index_that_is_full_refuses_for_now(tmp_path: Path, store: VideoStore) -> None:
    """The download is made again: what was renamed meanwhile is swept at the next start."""
    await keep(store, "video_1")
    (pages,) = store._cache._sql("PRAGMA page_count").fetchone()
    store._cache._sql(f"PRAGMA max_page_count = {pages}").fetchone()
    long = "video_" + "x" * 9000  # a row that needs a page of its own
    with pytest.raises(OSError, match=r"the index of videos refuses: database or disk is full"):
        store._adopt(long[:200], await made(store, tmp_path), "0" * 64 * 200)
    store._cache._sql("PRAGMA max_page_count = 1000000").fetchone()
    assert (await keep(store, "video_2")).sha256 == SHA256


async def test_an_index_that_is_locked_refuses_for_now(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store._cache._timeout = 0.01
    store._cache.close()
    with closing(index(tmp_path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="the index of videos refuses"):
            await keep(store, "video_1")
        other.execute("ROLLBACK")
    assert (await keep(store, "video_1")).sha256 == SHA256
    store.close()


async def made(store: VideoStore, folder: Path) -> Path:
    """A finished download."""
    part = await store.begin("another")
    await part.restart(None)
    await part.write(VIDEO)
    await part.seal(length_known=False)
    return part.path
