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

log = structlog.get_logger()

MOST_HEADERS = 100
MOST_HEADER_BYTES = 16 * 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Observe = Callable[[str, str, int, float], None]
"""Told method, route, status and seconds of each request answered."""


class Guard:
    """Wraps the application. `most`: bytes of a body; `now`: a clock in seconds that never
    steps.
    """

    def __init__(self, app: ASGIApp, observe: Observe, now: Callable[[], float], most: int) -> None:
        self._app = app
        self._observe = observe
        self._now = now
        self._most = most

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
                refusal = _refusal(headers, self._most)
                await (refusal or self._app)(scope, receive, send_signed)
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


def _refusal(headers: list[tuple[bytes, bytes]], most_body: int) -> ASGIApp | None:
    """The answer to a request whose headers alone make it unacceptable."""
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        most = f"at most {MOST_HEADERS} headers and {MOST_HEADER_BYTES} bytes of them"
        return envelope(431, f"A request may have {most}.", "headers_too_large")
    names = {name for name, _ in headers}
    if {b"content-length", b"transfer-encoding"} <= names:
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
