"""Input images that wait: durable before the job, kept once, gone with the last job."""

import asyncio
import hashlib
import io
import os
from pathlib import Path

import pytest

from gateway.content.inputs import InputStore
from gateway.errors import InputsFull

IMAGE = b"an image" * 100_000
SHA256 = hashlib.sha256(IMAGE).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "inputs").iterdir())


@pytest.fixture
def store(tmp_path: Path) -> InputStore:
    return InputStore(tmp_path, 10**7)


async def spool(store: InputStore, image: bytes = IMAGE) -> str:
    file = io.BytesIO(image)
    sha256 = await store.digest(file)
    await store.spool(file, sha256, len(image))
    return sha256


async def test_it_is_named_by_its_digest(tmp_path: Path, store: InputStore) -> None:
    assert await spool(store) == SHA256
    with store.open(SHA256) as file:
        assert file.read() == IMAGE
    assert names(tmp_path) == [SHA256]


async def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, store: InputStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(f"fsync {path.suffix or 'folder'}")
        assert (SHA256 in names(tmp_path)) == (done[-1] == "fsync folder")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    await spool(store)
    assert done == ["fsync .tmp", "rename", "fsync folder"]


async def test_the_same_image_is_kept_once(tmp_path: Path, store: InputStore) -> None:
    await asyncio.gather(*(spool(store) for _ in range(5)))
    await spool(store)
    assert names(tmp_path) == [SHA256]


async def test_a_new_process_finds_it(tmp_path: Path, store: InputStore) -> None:
    await spool(store)
    with InputStore(tmp_path, 10**7).open(SHA256) as file:
        assert file.read() == IMAGE


async def test_what_a_crash_left_half_way_is_swept(tmp_path: Path, store: InputStore) -> None:
    await spool(store)
    (tmp_path / "inputs" / f"{'0' * 64}.abcd1234.tmp").write_bytes(b"half")
    InputStore(tmp_path, 10**7)
    assert names(tmp_path) == [SHA256]


async def test_a_stray_folder_is_no_image_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "inputs" / "lost+found").mkdir(parents=True)
    store = InputStore(tmp_path, 10**7)
    await spool(store)
    store.free_unneeded(lambda _sha256: False)
    assert names(tmp_path) == ["lost+found"]


async def test_a_disk_that_refuses_leaves_nothing(
    tmp_path: Path, store: InputStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            await spool(store)
    assert names(tmp_path) == []
    await spool(store)
    assert names(tmp_path) == [SHA256]


class TestFree:
    async def test_when_nobody_needs_it(self, tmp_path: Path, store: InputStore) -> None:
        await spool(store)
        store.free(SHA256, lambda _: False)
        assert names(tmp_path) == []
        with pytest.raises(FileNotFoundError):
            store.open(SHA256)
        store.free(SHA256, lambda _: False)

    async def test_not_while_a_job_needs_it(self, tmp_path: Path, store: InputStore) -> None:
        await spool(store)
        store.free(SHA256, lambda sha256: sha256 == SHA256)
        assert names(tmp_path) == [SHA256]

    async def test_not_while_it_is_held(self, tmp_path: Path, store: InputStore) -> None:
        """Between its arrival and the commit of its job, another job's end must not take it."""
        with store.hold(SHA256):
            with store.hold(SHA256):
                await spool(store)
            store.free(SHA256, lambda _: False)
            assert names(tmp_path) == [SHA256]
        store.free(SHA256, lambda _: False)
        assert names(tmp_path) == []

    async def test_it_can_come_again(self, tmp_path: Path, store: InputStore) -> None:
        await spool(store)
        store.free(SHA256, lambda _: False)
        await spool(store)
        assert names(tmp_path) == [SHA256]

    async def test_all_that_nobody_needs(self, tmp_path: Path, store: InputStore) -> None:
        await spool(store)
        await spool(store, b"another")
        store.free_unneeded(lambda sha256: sha256 == SHA256)
        assert names(tmp_path) == [SHA256]


class TestFull:
    async def test_the_limit_is_inclusive(self, tmp_path: Path) -> None:
        store = InputStore(tmp_path, 10)
        await spool(store, b"12345")
        await spool(store, b"67890")
        with pytest.raises(InputsFull):
            await spool(store, b"x")
        await spool(store, b"12345")
        assert len(names(tmp_path)) == 2

    async def test_what_was_freed_counts_no_more(self, tmp_path: Path) -> None:
        store = InputStore(tmp_path, 10)
        sha256 = await spool(store, b"1234567890")
        store.free(sha256, lambda _: False)
        await spool(store, b"0987654321")

    async def test_what_is_there_at_a_start_counts(self, tmp_path: Path) -> None:
        await spool(InputStore(tmp_path, 10), b"1234567890")
        with pytest.raises(InputsFull):
            await spool(InputStore(tmp_path, 10), b"x")

    async def test_what_is_arriving_counts(self, tmp_path: Path) -> None:
        store = InputStore(tmp_path, 10)
        images = [b"12345", b"67890", b"abcde"]
        results = await asyncio.gather(
            *(spool(store, image) for image in images), return_exceptions=True
        )
        assert sum(isinstance(result, InputsFull) for result in results) == 1
        assert len(names(tmp_path)) == 2
