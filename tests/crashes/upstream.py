"""An upstream that does what a test says: holds a POST, stops in the middle of a video."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

ETAG = '"the one and only"'


@dataclass
class Upstream:
    """Every video is done at once, and its content is `video`. `posts`, `ranges`, `cut`: what
    reached it.
    """

    video: bytes
    answer_posts: asyncio.Event = field(default_factory=asyncio.Event)
    send_all: asyncio.Event = field(default_factory=asyncio.Event)
    posts: int = 0
    ranges: list[str] = field(default_factory=list)
    halves: int = 0
    """Downloads that were sent half of it and wait for the rest."""
    cut: int = 0
    """Connections that the gateway closed before the answer was there."""
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Upstream"]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.answer_posts.set()
            self.send_all.set()
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.rstrip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ")
        if method == "POST":
            self.posts += 1
            name = f"video_{self.posts}"
            await self._wait(self.answer_posts, reader)
            await send(writer, 200, json.dumps({"id": name, "status": "queued"}).encode())
        elif not path.endswith("/content"):
            await send(writer, 200, b'{"id": "video", "status": "completed", "progress": 100}')
        else:
            await self._content(headers.get("range", ""), reader, writer)

    async def _content(
        self, wanted: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        begin = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
        told = [f"etag: {ETAG}"]
        if wanted:
            self.ranges.append(wanted)
            told += [f"content-range: bytes {begin}-{len(self.video) - 1}/{len(self.video)}"]
        body = self.video[begin:]
        half = len(body) if self.send_all.is_set() else len(body) // 2
        await send(writer, 206 if wanted else 200, body[:half], told, len(body))
        if half < len(body):
            self.halves += 1
            await self._wait(self.send_all, reader)
            writer.write(body[half:])
            await writer.drain()

    async def _wait(self, event: asyncio.Event, reader: asyncio.StreamReader) -> None:
        """Until `event`, or until the gateway hangs up."""
        told, gone = asyncio.create_task(event.wait()), asyncio.create_task(hung_up(reader))
        await asyncio.wait((told, gone), return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            self.cut += 1
            told.cancel()
            raise ConnectionAbortedError
        gone.cancel()
        await asyncio.wait((gone,))


async def hung_up(reader: asyncio.StreamReader) -> None:
    """A gateway that is killed with bytes still to read resets its connection."""
    with suppress(ConnectionError):
        await reader.read(1)


async def send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    told: list[str] | None = None,
    length: int | None = None,
) -> None:
    lines = [f"HTTP/1.1 {status} OK", f"content-length: {length or len(body)}", *(told or [])]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
