"""The outermost layer of every request: its id, its bounds, its line in the log, its figures.

Pure ASGI: a callable of (scope, receive, send). Logs the route, never the path or a header: a
caller may have put a key anywhere.
"""

import re
from collections.abc import Callable
from secrets import token_hex

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.errors import envelope
from gateway.api.pace import Paced
from gateway.config import Limits

log = structlog.get_logger()

MOST_HEADERS = 100
MOST_HEADER_BYTES = 16 * 1024
MOST_URL = 8 * 1024
"""Bytes of a path and its query."""

_ONCE = (b"host", b"authorization", b"content-type", b"content-length", b"idempotency-key")
"""Headers that a proxy might read the first of, and the gateway the last."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Observe = Callable[[str, str, int, float], None]
"""Told method, route, status and seconds of each request answered."""


class Guard:
    """Wraps the application. `most`: bytes of a body; `now`: a clock in seconds that never
    steps; `limits`: how slowly a body may come.
    """

    def __init__(
        self,
        app: ASGIApp,
        observe: Observe,
        now: Callable[[], float],
        most: int,
        limits: Limits,
    ) -> None:
        self._app = app
        self._observe = observe
        self._now = now
        self._most = most
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = _request_id(headers)
        began = self._now()
        status = 0

        async def send_signed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                signed = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": signed}
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            try:
                refusal = _refusal(scope, self._most)
                paced = Paced(receive, self._limits, self._now)
                await (refusal or self._app)(scope, paced, send_signed)
            finally:
                seconds = self._now() - began
                route = getattr(scope.get("route"), "path", "none")
                self._observe(scope["method"], route, status, seconds)
                log.info(
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status,
                    seconds=round(seconds, 4),
                )


def _refusal(scope: Scope, most_body: int) -> ASGIApp | None:
    """The answer to a request whose head alone makes it unacceptable."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_URL:
        message = f"A path and its query may have at most {MOST_URL} bytes."
        return envelope(414, message, "url_too_long")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        most = f"at most {MOST_HEADERS} headers and {MOST_HEADER_BYTES} bytes of them"
        return envelope(431, f"A request may have {most}.", "headers_too_large")
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            message = f"A request must not have more than one {name.decode().title()}."
            return envelope(400, message, "invalid_headers")
    if {b"content-length", b"transfer-encoding"} <= set(names):
        message = "A request must not have both Content-Length and Transfer-Encoding."
        return envelope(400, message, "invalid_headers")
    # Starlette refuses it too, but as plain text.
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    if length.isdigit() and (len(length) > 18 or int(length) > most_body):
        message = f"A request's body may have at most {most_body} bytes."
        return envelope(413, message, "body_too_large")
    return None


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return value.decode()
    return f"req_{token_hex(12)}"
