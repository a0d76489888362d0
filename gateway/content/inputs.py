"""Input images that wait for their submit: spooled durably, named by their SHA-256, kept once
however many jobs share them.

An image is on disk, fsynced, before the job that needs it is committed. Who needs one is the
ledger's to say.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from gateway.content.disk import Disk
from gateway.errors import InputsFull, StartError
from gateway.failpoint import reach

BLOCK = 256 * 1024


class InputStore:
    """The images of one data folder. `max_bytes`: all together. Raises StartError."""

    def __init__(self, folder: Path, max_bytes: int, disk: Disk | None = None) -> None:
        self._disk = disk or Disk()
        self._folder = folder / "inputs"
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._disk.make_folder(self._folder)
            self._disk.sync(self._folder)  # an image may have been renamed just before a crash
            for path in self._folder.glob("*.tmp"):  # left by a crash: nothing was accepted with it
                path.unlink()
            files = [path for path in self._folder.iterdir() if path.is_file()]
            self._sizes = {path.name: path.stat().st_size for path in files}
        except OSError as error:
            raise StartError(f"{self._folder} can't be used: {error.strerror}") from error
        self._held: Counter[str] = Counter()
        self._arriving = 0

    async def digest(self, file: BinaryIO) -> str:
        """The SHA-256 of what `file` holds."""
        return await asyncio.to_thread(_digest, file)

    @contextmanager
    def hold(self, sha256: str) -> Iterator[None]:
        """Keep an image from being freed until the job that needs it is committed."""
        self._held[sha256] += 1
        try:
            yield
        finally:
            self._held[sha256] -= 1
            if not self._held[sha256]:
                del self._held[sha256]

    async def spool(self, file: BinaryIO, sha256: str, size: int) -> None:
        """Make the image durable: fsync, rename, fsync the folder. Raises InputsFull, OSError."""
        if sha256 in self._sizes:
            return
        if sum(self._sizes.values()) + self._arriving + size > self._max_bytes:
            raise InputsFull(f"input images that wait take up {self._max_bytes} bytes already")
        self._arriving += size
        try:
            await asyncio.to_thread(self._spool, file, sha256)
        finally:
            self._arriving -= size
        self._sizes[sha256] = size

    def open(self, sha256: str) -> BinaryIO:
        """The image, open for reading. Raises FileNotFoundError."""
        return (self._folder / sha256).open("rb")

    def free(self, sha256: str, needed: Callable[[str], bool]) -> None:
        """Delete the image unless it is held or `needed`."""
        if self._held[sha256] or needed(sha256):
            return
        self._disk.unlink(self._folder / sha256)
        reach("input.freed")
        self._sizes.pop(sha256, None)

    def free_unneeded(self, needed: Callable[[str], bool]) -> None:
        """Delete all images that nobody needs."""
        for sha256 in list(self._sizes):
            self.free(sha256, needed)

    def _spool(self, file: BinaryIO, sha256: str) -> None:
        disk = self._disk
        temporary = self._folder / f"{sha256}.{token_hex(4)}.tmp"
        file.seek(0)
        try:
            disk.write(temporary, b"")
            while block := file.read(BLOCK):
                disk.append(temporary, block)
            disk.sync(temporary)
            disk.rename(temporary, self._folder / sha256)
        except OSError:
            disk.unlink(temporary)
            raise


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()
