"""A gateway on a real port, and exact bytes sent to it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.app import Gateway


@dataclass
class Served:
    """A gateway on a port, and a key for it."""

    gateway: Gateway
    port: int
    key: str
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def folder(self):
        return self.gateway._settings.server.data_dir

    def job(self, video: str):
        return self.gateway.ledger.job(video)

    @property
    def ledger(self):
        return self.gateway.ledger

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        """End all connections that a test left."""
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*(w.wait_closed() for w in self.writers), return_exceptions=True)

    def head(self, line: str, *lines: str) -> bytes:
        told = [f"{line} HTTP/1.1", "host: gateway.test", f"authorization: Bearer {self.key}"]
        return "\r\n".join([*told, *lines, "", ""]).encode("latin-1")

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send exact bytes on a connection of their own; status, headers and body."""
        reader, writer = await self.connect()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        length = 0 if request.startswith(b"HEAD") else int(headers["content-length"])
        body = await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()
        return int(first.split(" ")[1]), headers, body

    async def create(self) -> str:
        body = b'{"prompt": "a cat"}'
        kind = ["content-type: application/json", f"content-length: {len(body)}"]
        status, _, answer = await self.ask(self.head("POST /v1/videos", *kind) + body)
        assert status == 200
        return str(json.loads(answer)["id"])


Serve = Callable[..., Awaitable[Served]]
"""Makes one; sections of its settings may be given by name."""
