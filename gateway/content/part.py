"""A download under way: a file that grows, and beside it the validator of what it is a part of.

A part outlives a crash of the process, but not of the machine: what the page cache had not written
may be anything then, so it is used again only under the boot that wrote it.
"""

import asyncio
import hashlib
from pathlib import Path

import orjson

from gateway.content.disk import Disk
from gateway.content.mp4 import HEAD, begins_like_mp4, is_whole_mp4
from gateway.errors import NotAVideo
from gateway.failpoint import reach

BUFFER = 1024 * 1024
"""Bytes gathered before they are written: a thread is asked once a megabyte."""


class Part:
    """The bytes of `key` so far: `offset` of them, of the content that `validator` names.

    Writes go to a thread; one download at a time may use it.
    """

    def __init__(self, disk: Disk, folder: Path, key: str, boot_id: str, max_bytes: int) -> None:
        self._disk = disk
        self.key = key
        self.path = folder / f"{key}.part"
        self.offset = 0
        self.validator: str | None = None
        self._note = folder / f"{key}.json"
        self._boot_id = boot_id
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._head = b""

    async def resume(self) -> None:
        """Take up what an earlier download left, if it can be trusted."""
        await asyncio.to_thread(self._resume)

    async def restart(self, validator: str | None) -> None:
        """Throw away what is there; what comes next is the content from its first byte."""
        self._buffer.clear()
        await asyncio.to_thread(self._restart, validator)

    def expect(self, size: int) -> None:
        """So many bytes are to come in all. Raises NotAVideo when that is too much."""
        if size > self._max_bytes:
            raise NotAVideo(f"it is larger than {self._max_bytes} bytes (content.video_bytes)")

    async def write(self, data: bytes) -> None:
        """Append. Raises NotAVideo when it can't become one, OSError when the disk refuses."""
        if len(self._head) < HEAD:
            self._head += data[:HEAD]
            if len(self._head) >= HEAD and not begins_like_mp4(self._head):
                raise NotAVideo("upstream sent something that is not an MP4")
        self.expect(self.offset + len(data))
        self._buffer += data
        self.offset += len(data)
        reach("download.chunk")
        if len(self._buffer) >= BUFFER:
            await self.flush()

    async def flush(self) -> None:
        """Hand what was gathered to the system."""
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self._append, data)

    async def seal(self, length_known: bool) -> str:
        """Check that it is whole and fsync it; its SHA-256. Raises NotAVideo, OSError."""
        await self.flush()
        return await asyncio.to_thread(self._seal, length_known)

    def forget(self) -> None:
        """Remove the note beside it, once the content has another place."""
        self._disk.unlink(self._note)

    def _resume(self) -> None:
        try:
            note = orjson.loads(self._note.read_bytes())
            if note["boot"] != self._boot_id or not note["validator"]:
                raise ValueError("left by another boot, or by a server without validators")
            with self.path.open("rb") as file:
                while block := file.read(BUFFER):
                    self._head = self._head or block[:HEAD]
                    self._hash.update(block)
                    self.offset += len(block)
            self.validator = note["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            self._restart(None)

    def _restart(self, validator: str | None) -> None:
        self._disk.write(self.path, b"")
        note = {"boot": self._boot_id, "validator": validator}
        self._disk.write(self._note, orjson.dumps(note))
        self.offset, self.validator, self._head = 0, validator, b""
        self._hash = hashlib.sha256()

    def _append(self, data: bytearray) -> None:
        self._disk.append(self.path, data)
        reach("download.flushed")
        self._hash.update(data)

    def _seal(self, length_known: bool) -> str:
        if not begins_like_mp4(self._head) or not (length_known or is_whole_mp4(self.path)):
            raise NotAVideo("it is not a whole MP4")
        if self.path.stat().st_size != self.offset:
            raise NotAVideo("the disk did not keep all of it")
        self._disk.sync(self.path)
        reach("keep.synced")
        return self._hash.hexdigest()
