"""A caller's connection: uvicorn's, with deadlines, bounds, and OpenAI's envelope for what is no
HTTP at all.

uvicorn ends only a connection that idles between two requests. Here a caller must also send its
request's head in time and read its answers in time, one request after the other, and whatever
brings neither a head nor a body is bounded. `api/pace.py` sees to bodies, `api/guard.py` to what a
whole head may hold. All seconds are the event loop's own timers; none is kept.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.errors import envelope
from gateway.api.guard import MOST_HEADER_BYTES, MOST_URL
from gateway.config import Limits

MOST_FRUITLESS = MOST_URL + 2 * MOST_HEADER_BYTES
"""Bytes in a row that end no head and bring no body: an endless header, trailer or chunk size."""

MOST_UNSENT = 128 * 1024
"""Bytes that the machine holds unsent for a caller: more would go out in lumps, with long pauses
in which a slow but honest reader can't be told from one that reads nothing.
"""

LINGER = 2.0
"""Seconds that a refused caller gets to read why, while what it still sends is thrown away."""


class Connection(HttpToolsProtocol):
    """One connection. `limits`: how many there may be, and their deadlines."""

    def __init__(self, limits: Limits, **parts: Any) -> None:
        super().__init__(**parts)
        self._limits = limits
        self.timeout_keep_alive = limits.idle  # type: ignore[assignment]
        self._fruitless = 0
        self._in_head = True
        self._refused = False
        self._read_again = False
        self._unread = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT)
        if len(self.connections) > self._limits.connections:
            self.app = _full
        self._expect_head()
        self._watch_timer = self.loop.call_later(self._limits.stall, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._watch_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.cycle is None or self.cycle.response_complete:
            self._expect_head()
        self._fruitless += len(data)
        super().data_received(data)
        if self._fruitless > MOST_FRUITLESS and not self._refused:
            self._refuse(431, "The request's head is too large.", "headers_too_large")

    # What the parser calls; an error raised here comes back as `send_400_response`.

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            raise ValueError("a request before the one before it is answered")
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is no header: no proxy has looked at it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._fruitless = 0
        self._read_again = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()
        if self.parser.should_upgrade():  # the parser reads no further
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._fruitless = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._fruitless = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(400, "This is not a request in HTTP/1.1.", "invalid_http")

    def resume_writing(self) -> None:
        self._read_again = True
        super().resume_writing()

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer, unless a whole request before it is still owed its own answer; then close."""
        self._refused = True
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        answer = envelope(status, message, code, headers={"connection": "close"})
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines += [b"%b: %b" % header for header in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.write_eof()  # closed at once, what it still sends would undo the answer
        self.loop.call_later(LINGER, self.transport.abort)

    def _expect_head(self) -> None:
        """From now on a whole head must come in time: whoever owes one is cut off, unanswered."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head, self.transport.abort)

    def _watch(self) -> None:
        """Cut off whoever has read too little of what waits for it since the last look."""
        unread = self.transport.get_write_buffer_size()
        least = self._limits.rate * self._limits.stall
        if not self._read_again and reads_too_little(self._unread, unread, least):
            self.transport.abort()
            return
        self._unread, self._read_again = unread, False
        self._watch_timer = self.loop.call_later(self._limits.stall, self._watch)


def reads_too_little(before: int, after: int, least: float) -> bool:
    """Whether less than `least` bytes were taken of the `before` that waited, and `after` still
    wait.
    """
    return before > 0 and after > 0 and before - after < least


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a connection that is one too many."""
    message = "The gateway has as many connections as it may. Try again later."
    headers = {"connection": "close", "retry-after": "5"}
    await envelope(503, message, "too_many_connections", headers=headers)(scope, receive, send)
