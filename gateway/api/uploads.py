"""What a caller asks for, read and checked before it costs anything.

Multipart and JSON alike. Every refusal names the field and what is allowed. An image is told by its
bytes, never by its name or the type that the client gave it.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from gateway.config import Requests
from gateway.errors import RequestError

FIELDS = ("prompt", "model", "size", "seconds", "input_reference")

MOST_PIXELS = 40_000_000
"""Width x height of an input image at most: an 8K frame has 33 million."""

OVERHEAD = 64 * 1024
"""Bytes of a request beside its image: fields, boundaries, part headers."""


@dataclass(frozen=True, slots=True)
class InputImage:
    """An input image, checked. `type`: its media type, from its bytes."""

    file: BinaryIO
    size: int
    type: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A video that a caller asks for, all of it checked."""

    prompt: str
    model: str
    size: str
    seconds: int
    image: InputImage | None


@asynccontextmanager
async def read_wanted(request: Request, allowed: Requests) -> AsyncIterator[Wanted]:
    """Read the body; the image stays readable as long as the block lasts. Raises RequestError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        yield _check(_read_json(await request.body()), None, allowed)
    elif kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        most = allowed.image_bytes + OVERHEAD  # what the body may have: `_check` names the field
        async with request.form(max_files=1, max_fields=20, max_part_size=most) as form:
            fields = form.multi_items()
            for name, _ in fields:
                if len(form.getlist(name)) > 1:
                    raise _bad(name, "is given more than once")
            values = {name: value for name, value in fields if isinstance(value, str)}
            files = {name: value for name, value in fields if isinstance(value, UploadFile)}
            _check_names(files.keys() | values.keys())
            image = await _read_image(files.pop("input_reference", None), allowed)
            for name in files:
                raise _bad(name, "must be text, not a file")
            yield _check(values, image, allowed)
    else:
        message = "Send multipart/form-data or application/json."
        raise RequestError(415, message, code="unsupported_media_type", param="content-type")


def _read_json(body: bytes) -> Mapping[str, Any]:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError(400, "The body is not valid JSON.", code="invalid_json") from None
    if not isinstance(values, dict):
        raise RequestError(400, "The body must be a JSON object.", code="invalid_json")
    return {name: value for name, value in values.items() if value is not None}


def _check(values: Mapping[str, Any], image: InputImage | None, allowed: Requests) -> Wanted:
    _check_names(values.keys())
    if "input_reference" in values:
        raise _bad("input_reference", "must be a file: a PNG or JPEG, sent as multipart/form-data")
    prompt = values.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise _bad("prompt", "is required: a text of what the video shows")
    if len(prompt) > allowed.prompt_chars:
        most = f"must have at most {allowed.prompt_chars} characters, and has {len(prompt)}"
        raise _bad("prompt", most)
    if any(not char.isprintable() and not char.isspace() for char in prompt):
        raise _bad("prompt", "must not hold control characters")
    seconds = values.get("seconds", allowed.seconds[0])
    if isinstance(seconds, int) and not isinstance(seconds, bool):
        seconds = str(seconds)
    return Wanted(
        prompt,
        _one_of("model", values.get("model"), allowed.models),
        _one_of("size", values.get("size"), allowed.sizes),
        int(_one_of("seconds", seconds, [str(length) for length in allowed.seconds])),
        image,
    )


def _check_names(names: Any) -> None:
    for name in sorted(names):
        if name not in FIELDS:
            raise _bad(name[:100], f"is unknown; there are {', '.join(FIELDS)}")


def _one_of(name: str, value: object, allowed: list[str]) -> str:
    if value is None:
        return allowed[0]
    if not isinstance(value, str) or value not in allowed:
        raise _bad(name, f"must be one of {', '.join(allowed)}")
    return value


async def _read_image(upload: UploadFile | None, allowed: Requests) -> InputImage | None:
    if upload is None:
        return None
    size = upload.size or 0
    if size > allowed.image_bytes:
        message = f"input_reference must have at most {allowed.image_bytes} bytes, and has {size}."
        raise RequestError(413, message, code="image_too_large", param="input_reference")
    kind = await asyncio.to_thread(_image_type, upload.file)
    return InputImage(upload.file, size, kind)


def _image_type(file: BinaryIO) -> str:
    """The media type of a whole PNG or JPEG. Raises RequestError for anything else."""
    file.seek(0)
    try:
        with warnings.catch_warnings(), Image.open(file, formats=("PNG", "JPEG")) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # A JPEG of several pictures, as telephones make them, is "MPO" to Pillow.
            kind = "image/png" if image.format == "PNG" else "image/jpeg"
            if image.width * image.height > MOST_PIXELS:
                raise _bad("input_reference", f"must have at most {MOST_PIXELS} pixels")
            if kind == "image/png":
                image.verify()  # reads every chunk and its checksum, decodes nothing
            else:
                image.draft("L", (image.width // 8 or 1, image.height // 8 or 1))
                image.load()  # decoded at an eighth: a truncated one is told, little memory taken
    except UnidentifiedImageError:
        raise _bad("input_reference", "must be a PNG or JPEG image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise _bad("input_reference", "is not a whole PNG or JPEG image") from None
    return kind


def _bad(field: str, what: str) -> RequestError:
    return RequestError(400, f"{field} {what}.", code="invalid_value", param=field)
