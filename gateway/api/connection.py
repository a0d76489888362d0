"""A caller's connection: uvicorn's, with deadlines, bounds, and OpenAI's envelope for what is no
HTTP at all.

uvicorn ends only a connection that idles between two requests. Here a caller must also send its
request's head in time and read its answers in time, one more request may wait behind the one that
is being answered, and whatever brings neither a head nor a body is bounded. `api/pace.py` sees to
bodies while their answers are made, `api/guard.py` to what a whole head may hold. All seconds are
the event loop's own timers; none is kept.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Any

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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


BAD_SPANS = 3
"""Spans in a row of reading too little, until a reader is cut off: the machine's buffer takes in
lumps, so an honest slow reader may seem to take nothing for a span, but not for so many.
"""


class Flow(FlowControl):
    """uvicorn's, with nothing read while it is `held`, whoever asks for more."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class Parser(httptools.HttpRequestParser):
    """httptools', which takes what follows the offer of an upgrade for another protocol. Here none
    is taken up, so what follows is the request's body (RFC 9110, 7.8): a second one reads it.
    """

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self._connection = connection
        self._second: httptools.HttpRequestParser | None = None

    def ends_early(self) -> bool:
        """Whether an end that it tells is not yet the request's."""
        return self._second is None and self.should_upgrade()

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn's are bytes
        if self._second is not None:
            self._second.feed_data(data)
            return
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            (read,) = offer.args
            framing = {b"content-length", b"transfer-encoding"}
            lines = [b"%b: %b" % each for each in self._connection.headers if each[0] in framing]
            self._second = httptools.HttpRequestParser(_Body(self._connection))
            self._second.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lines, b"", b""]))
            self._second.feed_data(data[read:])


class _Body:
    """What a second parser may tell of: the body of one request, and its end."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._ended = False

    def on_body(self, body: bytes) -> None:
        if not self._ended:
            self._connection.on_body(body)

    def on_message_complete(self) -> None:
        if not self._ended:
            self._ended = True
            self._connection.on_message_complete()


class Connection(HttpToolsProtocol):
    """One connection. `limits`: how many there may be, and their deadlines."""

    def __init__(self, limits: Limits, **parts: Any) -> None:
        super().__init__(**parts)
        self.parser: Parser = Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        self._limits = limits
        self.timeout_keep_alive = limits.idle  # type: ignore[assignment]  # typed as whole seconds
        self._fruitless = 0
        self._in_head = True
        self._in_body = False
        self._answering: RequestResponseCycle | None = None  # `cycle` may be the one behind it
        self._refused = False
        self._read_again = False
        self._unread = 0
        self._bad_spans = 0
        self._came = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as uvicorn's own narrows it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.connections.discard(self)
            self._write(_full())
            transport.close()  # a descriptor is what there may be no more of
            return
        self.flow: Flow = Flow(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT)
        self._expect_head()
        self._watch_timer = self.loop.call_later(self._limits.stall, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True  # uvicorn tells only the last one
            self._answering.message_event.set()
        timers = (self._head_timer, self._body_timer, self._watch_timer)
        for timer in (*timers, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._is_answered() and not self._in_body:
            self._expect_head()
        self._fruitless += len(data)
        super().data_received(data)
        if self._fruitless > MOST_FRUITLESS and not self._refused:
            self._refuse(431, "The request's head is too large.", "headers_too_large")
        self._set_deadline()

    def on_response_complete(self) -> None:
        self.flow.held = False
        super().on_response_complete()  # starts the one that waited
        self._answering = self.cycle
        self._set_deadline()

    # What the parser calls; an error raised here comes back as `send_400_response`.

    def on_message_begin(self) -> None:
        if self.pipeline:
            raise ValueError("a request more, and one waits already")
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is no header: no proxy has looked at it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._fruitless = 0
        self._read_again = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()
        if self.pipeline:
            self.flow.held = True  # what is received by now is all that is kept
        else:
            self._answering = self.cycle
        if self.parser.should_upgrade():  # what follows the body is not read
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._fruitless = 0
        self._came += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.ends_early():
            return
        self._fruitless = 0
        self._in_body = False
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(400, "This is not a request in HTTP/1.1.", "invalid_http")

    def resume_writing(self) -> None:
        self._read_again = True
        super().resume_writing()

    def _is_answered(self) -> bool:
        """Whether all that was asked has its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer, unless a whole request before it is still owed its own answer; then close."""
        self._refused = True
        self._unset_keepalive_if_required()
        self.flow.held = False  # what comes is thrown away
        self.flow.resume_reading()
        cycle = self.cycle
        if self.pipeline and cycle.more_body and self._answering is not None:
            self.pipeline.clear()
            self._answering.keep_alive = False
            return
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._write(envelope(status, message, code, headers={"connection": "close"}))
        self.transport.write_eof()  # closed at once, what it still sends would undo the answer
        self.loop.call_later(LINGER, self.transport.abort)

    def _write(self, answer: Response) -> None:
        phrase = HTTPStatus(answer.status_code).phrase
        lines = [f"HTTP/1.1 {answer.status_code} {phrase}".encode()]
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines += [b"%b: %b" % header for header in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))

    def _set_deadline(self) -> None:
        """While nothing is being answered its caller owes the rest of a body that was answered
        before its end, or of a head, or else nothing for a while.
        """
        if self._refused or self.transport.is_closing() or not self._is_answered():
            return
        if self._in_body or self._in_head:
            self._unset_keepalive_if_required()
            (self._expect_body if self._in_body else self._expect_head)()
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect_head(self) -> None:
        """From now on a whole head must come in time: whoever owes one is cut off, unanswered."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head, self.transport.abort)

    def _expect_body(self) -> None:
        """From now on a body that nobody reads must keep to the pace all the same."""
        if self._body_timer is None:
            self._came = 0
            self._body_timer = self.loop.call_later(self._limits.stall, self._check_body)

    def _check_body(self) -> None:
        self._body_timer = None
        if self._came < max(1.0, self._limits.rate * self._limits.stall):
            self.transport.abort()
        else:
            self._expect_body()

    def _watch(self) -> None:
        """Cut off whoever has read too little of what waits for it since the last look."""
        unread = self.transport.get_write_buffer_size()
        least = self._limits.rate * self._limits.stall
        before = 0 if self._read_again else self._unread
        self._bad_spans = bad_spans(self._bad_spans, before, unread, least)
        if self._bad_spans == BAD_SPANS:
            self.transport.abort()
            return
        self._unread, self._read_again = unread, False
        self._watch_timer = self.loop.call_later(self._limits.stall, self._watch)


def bad_spans(until_now: int, before: int, after: int, least: float) -> int:
    """How many spans in a row, this one among them, less than `least` bytes were taken of the
    `before` that waited, while `after` still wait. `until_now`: the same of the span before.
    """
    return until_now + 1 if before > 0 and after > 0 and before - after < least else 0


def _full() -> Response:
    """The answer to a connection that is one too many."""
    message = "The gateway has as many connections as it may. Try again later."
    headers = {"connection": "close", "retry-after": "5"}
    return envelope(503, message, "too_many_connections", headers=headers)
