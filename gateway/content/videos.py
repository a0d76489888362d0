"""The store of finished videos: whole files, indexed by diskcache.

diskcache is an index of bytes here, never the truth about a job. It keeps raw bytes only (its
pickles could run code), culls nothing (its default may delete everything at once), and adopts a
finished part by renaming it: no copy.
"""

import asyncio
import errno
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

import diskcache
from diskcache.core import MODE_BINARY

from gateway.content.disk import Disk
from gateway.content.part import Part
from gateway.errors import NotAVideo, StartError, StoreUnreadable
from gateway.failpoint import reach

SPARE = 200_000_000
"""Bytes of the disk that no video may take: the ledger must always be able to commit."""

TYPICAL = 50_000_000
"""Bytes that a video is taken to need, until a larger one has been seen."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A video in the store. `size` in bytes."""

    sha256: str
    size: int


class VideoStore:
    """The videos of one data folder. `max_bytes`: all together; `video_bytes`: one at most.

    Raises StartError.
    """

    def __init__(
        self,
        folder: Path,
        boot_id: str,
        max_bytes: int,
        video_bytes: int,
        disk: Disk | None = None,
    ) -> None:
        self._disk = disk or Disk()
        self._folder = folder / "videos"
        self._parts = folder / "parts"
        self._boot_id = boot_id
        self._max_bytes = max_bytes
        self._video_bytes = video_bytes
        self._largest = TYPICAL
        self._checked: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._disk.make_folder(self._parts)
            self._disk.make_folder(self._folder)
            self._cache = diskcache.Cache(
                str(self._folder),
                disk=_VideoDisk,
                eviction_policy="none",
                cull_limit=0,
                size_limit=2**62,
                sqlite_synchronous=2,
            )
        except OSError as error:
            raise StartError(f"{self._folder} can't be used: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StartError(
                f"the index of videos in {self._folder} can't be used: {error}"
            ) from error
        self._cache.disk.disk = self._disk

    def close(self) -> None:
        self._cache.close()

    async def begin(self, key: str) -> Part:
        """A part to download `key` into, taken up where an earlier one was left."""
        part = Part(self._disk, self._parts, key, self._boot_id, self._video_bytes)
        await part.resume()
        return part

    async def keep(self, part: Part, length_known: bool) -> Stored:
        """Verify a part, make it durable and adopt it. Raises NotAVideo, OSError."""
        sha256 = await part.seal(length_known)
        await asyncio.to_thread(self._adopt, part.key, part.path, sha256)
        reach("keep.indexed")
        part.forget()
        reach("keep.noted")
        self._largest = max(self._largest, part.offset)
        return Stored(sha256, part.offset)

    async def open(self, key: str, sha256: str | None = None) -> BinaryIO | None:
        """The video, open for reading; None: it is not here, or is not what `sha256` names.

        Whoever opened it may read it to its end. The bytes are checked once by each process.
        """
        return await asyncio.to_thread(self._open, key, sha256)

    async def remove(self, key: str) -> None:
        """Delete the video and what there is of a download of it. Whoever reads it may go on."""
        await asyncio.to_thread(self._remove, key)

    def used(self) -> int:
        """Bytes that all videos take."""
        volume: int = self._cache.volume()
        return volume

    async def recover(self, key: str) -> Stored | None:
        """A video that was adopted just before a crash, verified again; None: there is none."""
        return await asyncio.to_thread(self._recover, key)

    async def sweep(self, wanted: Callable[[str], bool]) -> list[str]:
        """Delete what belongs to keys that are not `wanted`; the keys. For a start only, before
        downloads.
        """
        with _index():
            return await asyncio.to_thread(lambda: list(self._sweep(wanted)))

    async def sweep_parts(self, wanted: Callable[[str], bool]) -> None:
        """Delete what there is of downloads of keys that are not `wanted`. One that is under way
        goes on with a new part: whoever makes it sees to that at its end.
        """
        for path in await asyncio.to_thread(lambda: sorted(self._parts.iterdir())):
            if not wanted(path.stem):
                await asyncio.to_thread(self._disk.unlink, path)

    def has_room(self, pending: int) -> bool:
        """Whether `pending` more videos fit: into `max_bytes`, and on the disk beside what the
        ledger needs.
        """
        needed = pending * self._largest
        free = self._disk.free(self._folder) - SPARE
        return needed <= free and self.used() + needed <= self._max_bytes

    def _open(self, key: str, sha256: str | None) -> BinaryIO | None:
        file: BinaryIO | None = self._cache.get(key, read=True)
        if file is None or sha256 is None or key in self._checked:
            return file
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
            file.close()
            return None
        file.seek(0)
        self._checked.add(key)
        return file

    def _remove(self, key: str) -> None:
        self._checked.discard(key)
        self._cache.delete(key)
        for path in self._parts.glob(f"{key}.*"):
            self._disk.unlink(path)

    def _adopt(self, key: str, path: Path, sha256: str) -> None:
        """Put a finished file into its place and into the index. Raises OSError."""
        with _index():
            self._cache.set(key, path, tag=sha256)

    def _recover(self, key: str) -> Stored | None:
        for path in self._folder.glob(f"*/{key}-*.mp4"):
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
            with _index():
                opened, recorded = self._cache.get(key, read=True, tag=True)
            if opened is None:  # the crash came between the renaming and the index
                self._adopt(key, path, sha256)
            else:
                opened.close()
                if recorded != sha256:
                    raise NotAVideo(f"{key} is not what was stored")
            Part(self._disk, self._parts, key, self._boot_id, self._video_bytes).forget()
            return Stored(sha256, size)
        return None

    def _sweep(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        for key in list(self._cache.iterkeys()):
            if not wanted(key):
                self._cache.delete(key)
                yield key
        indexed = {str(name) for name in self._cache.iterkeys()}
        for path in self._folder.glob("*/*.mp4"):
            key = path.name.rpartition("-")[0]
            if key not in indexed:
                self._disk.unlink(path)
                yield key
        for path in self._parts.iterdir():
            if not wanted(path.stem):
                self._disk.unlink(path)


@contextmanager
def _index() -> Iterator[None]:
    """The index is a file: what it refuses is an OSError like any other."""
    try:
        yield
    except (sqlite3.Error, diskcache.Timeout) as error:
        raise OSError(errno.EIO, f"the index of videos refuses: {error}") from error


class _VideoDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Files named after their key; nothing is ever pickled, in either direction."""

    disk = Disk()
    """What moves the files; the store puts its own here, for settings of diskcache's must be
    storable.
    """

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError("a video's key is a string")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or not isinstance(key, str):
            raise TypeError("a video's key is a string")
        return key

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        name = os.path.join(f"{str(key)[-2:]}", f"{key}-{token_hex(4)}.mp4")
        return name, os.path.join(self._directory, name)

    def store(self, value: object, read: bool, key: Any = None) -> tuple[int, int, str, None]:
        """Adopt a finished, fsynced file by renaming it to its place."""
        if not isinstance(value, Path):
            raise TypeError("a video is adopted from a finished file")
        name, target = self.filename(key)
        self.disk.make_folder(Path(target).parent)
        self.disk.rename(value, Path(target))
        reach("keep.placed")
        return os.path.getsize(target), MODE_BINARY, name, None

    def remove(self, file_path: str) -> None:
        try:
            self.disk.unlink(Path(self._directory, file_path))
        except OSError:
            return  # it belongs to no key any more: the next start sweeps it

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> BinaryIO:
        if mode != MODE_BINARY or filename is None or not read:
            raise TypeError("a video is a file, opened for reading")
        try:
            return open(os.path.join(self._directory, filename), "rb")
        except FileNotFoundError:
            raise
        except OSError as error:  # diskcache takes any of them for a video that is not there
            raise StoreUnreadable(f"{filename}: {error.strerror}") from error
