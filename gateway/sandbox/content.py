"""How content is answered: whole, a range of it, or broken off on purpose.

Owns the range arithmetic and the headers that let a download be resumed. Never makes the content,
and never decides which way a download goes.
"""

import re
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.sandbox.errors import Refusal
from gateway.sandbox.studio import Movie

_RANGE = re.compile(r"bytes=\s*(?:(\d+)-(\d*)|-(\d+))\s*", re.IGNORECASE)


class CutShort(Response):
    """Declares its whole length, sends the first `sent` bytes of it, and closes the connection."""

    def __init__(self, whole: Response, sent: int) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        part = bytes(self.body)[: self._sent]
        await send({"type": "http.response.body", "body": part, "more_body": True})


def asked_range(header: str | None, length: int) -> range | None:
    """The bytes one `Range` asks for, of `length`; None means all of them.

    Refusal 416 if there are none of them. A header that is not exactly one range of bytes is
    ignored, as HTTP allows.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        asked = range(max(0, length - int(suffix)), length)
    else:
        if last and int(last) < int(first):
            return None
        asked = range(int(first), min(int(last) + 1, length) if last else length)
    if not asked:
        raise Refusal(
            416,
            "range_not_satisfiable",
            f"The content has {length} bytes.",
            headers={"Content-Range": f"bytes */{length}"},
        )
    return asked


def answer(movie: Movie, headers: Mapping[str, str]) -> Response:
    """The content, or the one range of it that the request's headers ask for."""
    tag = f'"{movie.sha256}"'
    wanted = headers.get("range") if headers.get("if-range", tag) == tag else None
    asked = asked_range(wanted, len(movie.content))
    told = {"ETag": tag, "Accept-Ranges": "bytes"}
    if asked is None:
        return Response(movie.content, headers=told, media_type="video/mp4")
    told["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{len(movie.content)}"
    part = movie.content[asked.start : asked.stop]
    return Response(part, 206, headers=told, media_type="video/mp4")
