"""Is this a whole MP4? Told by its boxes, without decoding."""

from pathlib import Path
from typing import BinaryIO

HEAD = 12
"""Bytes needed to tell whether something begins like an MP4."""


def begins_like_mp4(head: bytes) -> bool:
    """Whether the first 12 bytes are those of an `ftyp` box (ISO/IEC 14496-12, 4.3)."""
    return len(head) >= HEAD and head[4:8] == b"ftyp"


def is_whole_mp4(path: Path) -> bool:
    """Whether the top-level boxes fill the file to its last byte and hold a `moov`.

    It tells a file that was cut off where no length was announced.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        kinds = set()
        at = 0
        while at < size:
            kind, length = _box(file, at, size)
            if length < 8 or at + length > size:
                return False
            kinds.add(kind)
            at += length
    return {b"ftyp", b"moov"} <= kinds


def _box(file: BinaryIO, at: int, size: int) -> tuple[bytes, int]:
    """Kind and length of the box at `at`; a length of 0 when it is none."""
    file.seek(at)
    head = file.read(16)
    if len(head) < 8:
        return b"", 0
    length = int.from_bytes(head[:4], "big")
    if length == 1:  # a 64-bit length follows
        return head[4:8], int.from_bytes(head[8:16], "big")
    return head[4:8], length or size - at  # 0: to the end of the file
