"""A server that speaks exact bytes, and a client in front of it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from time import time
from typing import Any

from gateway.config import AccountSettings, Timeouts
from gateway.job import Job, State
from gateway.upstream.client import Upstream

KEY = "sk-upstream-secret-0123456789"


@dataclass
class Request:
    """A request as it came over the wire."""

    connection: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def parts(self) -> list[Message]:
        """The parts of a multipart form, parsed by somebody who did not write it."""
        head = f"content-type: {self.header('content-type')}\r\n\r\n".encode()
        return list(BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts())


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Handler


def http(status: int, body: object = b"", *lines: str) -> bytes:
    """An answer with its right length; anything but bytes is sent as JSON. `lines`: headers."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Whatever", *lines, f"content-length: {len(data)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def bare(status: int, body: bytes, *lines: str) -> bytes:
    """An answer with these header lines and no others."""
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines]).encode() + b"\r\n\r\n" + body


def then_close(data: bytes) -> Handler:
    """Send `data` and close the connection."""

    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return send


def then_hang(data: bytes = b"") -> Handler:
    """Send `data` and never anything more."""

    async def send(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await asyncio.sleep(3600)

    return send


async def reset(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Break the connection."""
    writer.transport.abort()


@dataclass
class Server:
    """Gives its answers in turn, the last one again and again."""

    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    connections: int = 0
    on_head: Handler | None = None
    """Called instead of reading a body."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                request = await _read_head(reader, number)
                self.seen.append(request)
                if self.on_head is not None:
                    await self.on_head(request, writer)
                    return
                request.body = await reader.readexactly(int(request.header("content-length") or 0))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(request, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def _read_head(reader: asyncio.StreamReader, number: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = [
        (name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)
    ]
    return Request(number, method, path, headers)


@asynccontextmanager
async def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a port of its own, for as long as the block lasts."""
    server = Server(answers=list(answers))
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    over = False

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if over:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(server.handle(reader, writer))
        tasks[task] = writer
        task.add_done_callback(tasks.pop)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        over = True
        listening.close()
        writers = list(tasks.values())
        for task, writer in list(tasks.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
        for _ in range(3):  # one that was accepted meanwhile is aborted, a turn later closed
            await asyncio.sleep(0)


@asynccontextmanager
async def calling(
    url: str, key: str = KEY, transport: Any = None, **settings: Any
) -> AsyncIterator[Upstream]:
    """The client of an account at `url`. Timeouts and the account's settings may be given."""
    seconds = {name: settings.pop(name) for name in ("submit", "poll", "stall") if name in settings}
    account = AccountSettings(base_url=url, **settings)
    upstream = Upstream(account, key, Timeouts(**seconds), time, transport)
    try:
        yield upstream
    finally:
        await upstream.close()


def job(**changed: Any) -> Job:
    values: dict[str, Any] = {
        "id": "video_ours",
        "caller": "caller_alice",
        "state": State.SUBMITTING,
        "model": "sora-2",
        "size": "1280x720",
        "seconds": 10,
        "prompt": "a cat",
        "created_at": 0.0,
        "accepted": 0.0,
    }
    return Job(**(values | changed))
