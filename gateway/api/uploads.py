"""What a caller asks for, read and checked before it costs anything.

Multipart and JSON alike. Every refusal names the field and what is allowed.
"""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from unicodedata import category
from urllib.parse import parse_qsl

import orjson
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gateway.api.images import image_type
from gateway.config import Requests
from gateway.errors import RequestError, bad_value

IMAGE = "input_reference"
ON_UNKNOWN = "on_unknown"
RESUBMIT = "resubmit"
UNKNOWN_WAYS = ["fail", RESUBMIT]
"""What to do when nobody can tell whether upstream accepted a video; the first is the default."""

FIELDS = ("prompt", "model", "size", "seconds", IMAGE, ON_UNKNOWN)
IMAGE_URL = f"{IMAGE}[image_url]"
FILE_ID = f"{IMAGE}[file_id]"

MOST_TEXT = 64 * 1024
"""Bytes of a form's text fields at most; a prompt of 999 characters has 4 KB."""

SPOOL = 64 * 1024
"""Bytes of a body or image that comes, held in memory; what is more goes to a file."""

MOST_VALUES = 200_000
"""Values in a JSON body at most: each takes 64 bytes of memory and more, and two in the body."""

_CONTROL = {"Cc", "Cs"}
"""Unicode categories that no text needs: control characters and halves of surrogate pairs. What
joins emoji or letters, or is newer than this Python's tables, is a text as any other.
"""

NO_UTF_8 = "must be text in UTF-8"

_CHARSETS = {"", "utf-8", "utf8", "us-ascii", "ascii"}


def most_body(allowed: Requests) -> int:
    """Bytes of a request's body at most: an image in base64, and the fields beside it."""
    return allowed.image_bytes * 4 // 3 + 2 * MOST_TEXT


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
    on_unknown: str = UNKNOWN_WAYS[0]
    image: InputImage | None = None

    def fingerprint(self, sha256: str | None) -> str:
        """The SHA-256 of all that is asked for; `sha256` is the image's."""
        asked = [self.prompt, self.model, self.size, self.seconds, sha256]
        if self.on_unknown != UNKNOWN_WAYS[0]:  # requests of before it was there stay the same
            asked.append(self.on_unknown)
        return hashlib.sha256(orjson.dumps(asked)).hexdigest()


class Uploads:
    """Reads what callers ask for. `allowed`: the settings of what they may."""

    def __init__(self, allowed: Requests) -> None:
        self._allowed = allowed
        # A body that is no multipart form must be held whole: of large ones one at once.
        self._bodies = asyncio.Semaphore(1)
        # Images are checked one by one: a progressive JPEG takes 6 bytes of memory a pixel.
        # Always by the same thread, since each thread's allocator keeps what one has taken.
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="image")

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Wanted]:
        """Read the body; its image is readable while the block lasts. Raises RequestError."""
        wanted, file = await self._read(request)
        if file is None:
            yield wanted
            return
        with file:
            size = file.seek(0, 2)
            loop = asyncio.get_running_loop()
            kind = await loop.run_in_executor(self._checker, image_type, file)
            yield replace(wanted, image=InputImage(file, size, kind))

    async def _read(self, request: Request) -> tuple[Wanted, BinaryIO | None]:
        """What is asked for, and its image, not yet checked."""
        kind = _kind(request)
        if kind == "multipart/form-data":
            return _from_form(await _parse(request, self._allowed), self._allowed)
        if kind == "application/json":
            with await _spooled(request) as spool:
                async with self._bodies if spool.tell() > MOST_TEXT else nullcontext():
                    return _from_json(_whole(spool), self._allowed)
        if kind == "application/x-www-form-urlencoded":
            with await _spooled(request) as spool:
                async with self._bodies if spool.tell() > MOST_TEXT else nullcontext():
                    return _from_form(_parse_fields(_whole(spool)), self._allowed)
        message = "Send multipart/form-data or application/json."
        raise RequestError(415, message, code="unsupported_media_type", param="content-type")


def _kind(request: Request) -> str:
    """The body's media type. Raises RequestError where its bytes are not what they say."""
    kind, _, told = request.headers.get("content-type", "").partition(";")
    _, options = parse_options_header(f"x;{told}")
    charset = options.get(b"charset", b"").decode("latin-1").lower()
    if charset not in _CHARSETS:  # Python knows many, and some fail in odd ways
        message = "A body's charset must be utf-8."
        raise RequestError(415, message, code="unsupported_media_type", param="content-type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "A body must not be compressed."
        raise RequestError(415, message, code="unsupported_media_type", param="content-encoding")
    return kind.strip().lower()


class _Parser(MultiPartParser):
    """Starlette's, but a `data:` URL in a field is spooled to a file as an upload is, text that is
    no UTF-8 is refused and not guessed at, and so is a form that breaks off.
    """

    spool_max_size = SPOOL

    def __init__(self, request: Request) -> None:
        stream = self._until_its_end(request.stream())
        super().__init__(
            request.headers, stream, max_files=1, max_fields=20, max_part_size=MOST_TEXT
        )
        self._ended = False

    async def _until_its_end(self, stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._ended:
            message = "The form breaks off: its last boundary is missing."
            raise RequestError(400, message, code="invalid_form", param=self.field)

    @property
    def field(self) -> str | None:
        """The field that is being read."""
        name = getattr(self._current_part, "field_name", "")
        return name[:100] or None

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.field_name == IMAGE_URL and part.file is None:
            spool = SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 - closed by `read`
            self._files_to_close_on_error.append(spool)
            part.file = UploadFile(cast("BinaryIO", spool), size=0)

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is not None:
            super().on_part_end()
            return
        try:
            self.items.append((part.field_name, part.data.decode()))
        except UnicodeDecodeError:
            raise bad_value(self.field or "A field", NO_UTF_8) from None

    def on_end(self) -> None:
        self._ended = True


async def _parse(request: Request, allowed: Requests) -> FormData:
    parser = _Parser(request)
    try:
        return await parser.parse()
    except MultiPartException as error:
        message = error.message
        if parser.field:
            message = f"{parser.field}: {message}"
        if parser.field == "prompt":
            message += f" A prompt must have at most {allowed.prompt_chars} characters."
        raise RequestError(400, message, code="invalid_form", param=parser.field) from error


def _from_form(form: FormData, allowed: Requests) -> tuple[Wanted, BinaryIO | None]:
    """What a form asks for, and its image, not yet checked."""
    values: dict[str, Any] = {}
    image: BinaryIO | None = None
    try:
        for name, value in form.multi_items():
            if name in values or (name in (IMAGE, IMAGE_URL) and image is not None):
                raise bad_value(name, "is given more than once")
            if isinstance(value, UploadFile) and name == IMAGE:
                _check_bytes(value.size or 0, allowed)
                image = value.file
            elif isinstance(value, UploadFile) and name == IMAGE_URL:
                image = _from_url(value.file.read().decode("latin-1"), allowed)
                value.file.close()
            elif isinstance(value, UploadFile):
                raise bad_value(name[:100], "must be text, not a file")
            elif name == IMAGE_URL:
                image = _from_url(value, allowed)
            else:
                values[name] = value
        return _check(values, allowed), image
    except RequestError:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                value.file.close()
        raise


async def _spooled(request: Request) -> SpooledTemporaryFile[bytes]:
    """The body as it came, at its end: a caller that sends slowly holds no memory meanwhile."""
    spool = SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 - its caller closes it
    try:
        async for chunk in request.stream():
            spool.write(chunk)
    except BaseException:
        spool.close()
        raise
    return spool


def _whole(spool: SpooledTemporaryFile[bytes]) -> bytearray:
    size = spool.tell()
    spool.seek(0)
    body = bytearray(size)
    spool.readinto(body)
    return body


def _parse_fields(body: bytearray) -> FormData:
    """An urlencoded form."""
    try:
        text = body.decode()
        body.clear()  # what an image takes in memory must not be held twice
        return FormData(
            [*parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20)]
        )
    except UnicodeDecodeError:
        raise RequestError(400, f"The form {NO_UTF_8}.", code="invalid_form") from None
    except ValueError:
        raise RequestError(400, "The form has too many fields.", code="invalid_form") from None


def _from_json(body: bytearray, allowed: Requests) -> tuple[Wanted, BinaryIO | None]:
    """What a JSON object asks for, and the image in it, not yet checked."""
    if sum(map(body.count, b",[{")) > MOST_VALUES:
        raise RequestError(400, "The body holds too many values.", code="invalid_json")
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError(400, "The body is not valid JSON.", code="invalid_json") from None
    body.clear()  # what an image takes in memory must not be held twice
    if not isinstance(values, dict):
        raise RequestError(400, "The body must be a JSON object.", code="invalid_json")
    values = {name: value for name, value in values.items() if value is not None}
    image = values.pop(IMAGE, None)
    wanted = _check(values, allowed)
    if image is None:
        return wanted, None
    if isinstance(image, dict):
        if image.get("file_id") is not None or set(image) - {"image_url", "file_id"}:
            raise _not_taken()
        image = image.get("image_url")
    if not isinstance(image, str):
        raise _not_taken()
    return wanted, _from_url(image, allowed)


def _from_url(url: str, allowed: Requests) -> BinaryIO:
    """The image in a `data:` URL. Nothing is ever fetched: callers must not reach inside."""
    kind, _, encoded = url.partition(",")
    if not kind.startswith("data:") or not kind.endswith(";base64"):
        raise _not_taken()
    _check_bytes(len(encoded) * 3 // 4 - encoded[-2:].count("="), allowed)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise bad_value(IMAGE, "is not valid base64 after `data:...;base64,`") from None
    file = SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 - closed by `read`
    file.write(data)
    return cast("BinaryIO", file)


def _not_taken() -> RequestError:
    what = "must be a PNG or JPEG file, or its bytes as a `data:image/...;base64,` URL"
    return bad_value(IMAGE, f"{what}; other URLs and file ids are not fetched")


def _check_bytes(size: int, allowed: Requests) -> None:
    if size > allowed.image_bytes:
        message = f"{IMAGE} must have at most {allowed.image_bytes} bytes, and has {size}."
        raise RequestError(413, message, code="image_too_large", param=IMAGE)


def _check(values: Mapping[str, Any], allowed: Requests) -> Wanted:
    _check_names(values)
    if IMAGE in values or FILE_ID in values:
        raise _not_taken()
    prompt = values.get("prompt", "")
    if not isinstance(prompt, str):
        raise bad_value("prompt", "must be a text")
    if not prompt.strip():
        raise bad_value("prompt", "is required: a text of what the video shows")
    if len(prompt) > allowed.prompt_chars:
        most = f"must have at most {allowed.prompt_chars} characters, and has {len(prompt)}"
        raise bad_value("prompt", most)
    if any(category(char) in _CONTROL and char not in "\t\n\r" for char in prompt):
        raise bad_value("prompt", "must not hold control characters, but for tabs and line breaks")
    seconds = values.get("seconds", allowed.seconds[0])
    if isinstance(seconds, int) and not isinstance(seconds, bool):
        seconds = str(seconds)
    return Wanted(
        prompt,
        _one_of("model", values.get("model"), allowed.models),
        _one_of("size", values.get("size"), allowed.sizes),
        int(_one_of("seconds", seconds, [str(length) for length in allowed.seconds])),
        _one_of(ON_UNKNOWN, values.get(ON_UNKNOWN), UNKNOWN_WAYS),
    )


def _check_names(names: Iterable[str]) -> None:
    for name in sorted(names):
        if name not in (*FIELDS, FILE_ID):
            raise bad_value(name[:100], f"is unknown; there are {', '.join(FIELDS)}")


def _one_of(name: str, value: object, allowed: list[str]) -> str:
    if value is None:
        return allowed[0]
    if not isinstance(value, str) or value not in allowed:
        raise bad_value(name, f"must be one of {', '.join(allowed)}")
    return value
