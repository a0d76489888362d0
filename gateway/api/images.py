"""What a caller's image is: told by its bytes, never by its name or the type that came with it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from gateway.errors import RequestError, bad_value

MOST_PIXELS = 4096 * 4096
"""Width x height of an input image at most: what a check of one may take in memory follows it."""

MOST_SCANS = 500
"""Scans of a JPEG at most: each costs a look at every pixel; a progressive one has about ten."""

BLOCK = 64 * 1024
"""Bytes that are looked through at once."""


def image_type(file: BinaryIO) -> str:
    """The media type of a whole PNG or JPEG. Raises RequestError for anything else."""
    file.seek(0)
    try:
        with _quiet(), Image.open(file, formats=("PNG", "JPEG")) as image:
            # A JPEG of several pictures, as telephones make them, is "MPO" to Pillow.
            kind = "image/png" if image.format == "PNG" else "image/jpeg"
            if image.width * image.height > MOST_PIXELS:
                raise bad_value("input_reference", f"must have at most {MOST_PIXELS} pixels")
            if kind == "image/png":
                image.verify()  # reads every chunk and its checksum, decodes nothing
            else:
                if _scans(file) > MOST_SCANS:
                    raise bad_value("input_reference", f"must have at most {MOST_SCANS} scans")
                image.draft("L", (image.width // 8 or 1, image.height // 8 or 1))
                image.load()  # decoded at an eighth: a truncated one is told, little memory taken
    except UnidentifiedImageError:
        raise bad_value("input_reference", "must be a PNG or JPEG image") from None
    except RequestError:
        raise
    except Exception:  # noqa: BLE001 - hostile bytes make a decoder raise anything
        raise bad_value("input_reference", "is not a whole PNG or JPEG image") from None
    return kind


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of what callers send; the log is not theirs to write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _scans(file: BinaryIO) -> int:
    """How often a JPEG's marker of a scan comes; within one it can't."""
    place = file.tell()
    file.seek(0)
    scans, last = 0, b""
    while block := file.read(BLOCK):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:]
    file.seek(place)
    return scans
