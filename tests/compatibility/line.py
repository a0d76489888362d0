"""The line between a client and the gateway: a TCP proxy that notes what the client sends, and
loses answers when told to.

Bytes are passed on as they are. What was sent is read as HTTP afterwards.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import h11

Loss = Literal["closed", "502", "silence"]
"""How an answer is lost: the connection breaks; a proxy in between answers 502; nothing comes."""

BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 20\r\n"
    b"connection: close\r\n\r\n<h1>Bad Gateway</h1>"
)

CHUNK = 256 * 1024


@dataclass
class Sent:
    """One request as the client sent it. `at`: when it began, seconds of a steady clock."""

    at: float
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def chunked(self) -> bool:
        return self.headers.get("transfer-encoding") == "chunked"

    @property
    def retry(self) -> int:
        """Which retry the SDK says that it is."""
        return int(self.headers.get("x-stainless-retry-count", "0"))

    @property
    def parts(self) -> dict[str, str]:
        """The names of a multipart form, each with the media type of its part, or ''."""
        boundary = self.headers["content-type"].partition("boundary=")[2].strip('"')
        found = {}
        for part in self.body.split(f"--{boundary}".encode())[1:-1]:
            head = part.partition(b"\r\n\r\n")[0].decode()
            (name,) = re.findall(r'[; ]name="([^"]*)"', head)
            kind = re.search(r"content-type: *(\S+)", head, re.IGNORECASE)
            found[name] = kind[1] if kind else ""
        return found


@dataclass
class Line:
    """A line to the gateway on `port`. The first `losses` answers to a POST are lost."""

    port: int
    loss: Loss = "closed"
    losses: int = 0
    lost: int = 0
    _connections: list[list[tuple[float, bytes]]] = field(default_factory=list)
    _address: tuple[str, int] = ("", 0)
    _server: asyncio.Server | None = None
    _carrying: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0, limit=CHUNK)
        self._address = self._server.sockets[0].getsockname()

    async def close(self) -> None:
        """No connection is open any more after this."""
        if self._server is not None:
            self._server.close()
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def sent(self) -> list[Sent]:
        """All requests so far, in the order they began."""
        found = (each for connection in self._connections for each in _requests(connection))
        return sorted(found, key=lambda each: each.at)

    async def _carry(self, theirs: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        answers, forth = await asyncio.open_connection("127.0.0.1", self.port, limit=CHUNK)
        noted: list[tuple[float, bytes]] = []
        self._connections.append(noted)
        up = asyncio.create_task(_pass_on(theirs, forth, noted))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await answers.read(CHUNK):
                    if self.lost < self.losses and noted[0][1].startswith(b"POST"):
                        self.lost += 1
                        await self._lose(back, up)
                        return
                    back.write(data)
                    await back.drain()
        finally:
            up.cancel()
            back.close()
            forth.close()

    async def _lose(self, back: asyncio.StreamWriter, up: "asyncio.Task[None]") -> None:
        """The gateway has answered; the client never sees it."""
        match self.loss:
            case "closed":
                back.transport.abort()
            case "502":
                back.write(BAD_GATEWAY)
                await back.drain()
            case "silence":
                await up  # until the client gives up


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noted: list[tuple[float, bytes]]
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            noted.append((time.monotonic(), data))
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _requests(connection: list[tuple[float, bytes]]) -> Iterator[Sent]:
    """The requests in what a connection carried."""
    server = h11.Connection(h11.SERVER)
    request = None
    for at, data in connection:
        server.receive_data(data)
        while (event := server.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
                request = Sent(at, event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data) and request is not None:
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                yield request
                server.send(h11.Response(status_code=204, headers=[]))
                server.send(h11.EndOfMessage())
                if server.our_state is h11.MUST_CLOSE:
                    return
                server.start_next_cycle()
