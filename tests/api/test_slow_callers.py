"""Deadlines of callers' connections, on a real port: each test waits for the connection's end."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from stage import held_open, mp4, picture, until

from gateway.api.connection import BAD_SPANS, bad_spans

from .bench import complete
from .served import Serve, Served

SOON = {"head": 60.0, "idle": 60.0, "stall": 60.0}
"""Deadlines that no test meets; each one shortens the one that it is about."""

VIDEO = mp4(os.urandom(24_000_000))
"""More than all the buffers between a server and a caller hold."""

FORM = (
    b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na cat\r\n'
    b'--x\r\ncontent-disposition: form-data; name="input_reference"; filename="i"\r\n\r\n'
)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    told = b""
    async with asyncio.timeout(20):
        while True:
            try:
                got = await reader.read(65536)
            except ConnectionResetError:
                return told
            if not got:
                return told
            told += got


async def trickle(writer: asyncio.StreamWriter, pieces: bytes, reader: asyncio.StreamReader) -> int:
    """Send a byte at a time until the server closes; how many were sent."""
    sent = 0
    async with asyncio.timeout(20):
        for at in range(len(pieces)):
            if reader.at_eof() or writer.is_closing():
                break
            try:
                writer.write(pieces[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0.01)
            except ConnectionError:
                break
            sent += 1
    return sent


class TestHead:
    @pytest.fixture
    async def served(self, serve: Serve) -> Served:
        return await serve(limits=SOON | {"head": 0.2})

    async def test_a_caller_that_says_nothing(self, served: Served) -> None:
        reader, _ = await served.connect()
        assert await rest(reader) == b""

    @pytest.mark.parametrize(
        "start", [b"G", b"\r\n", b"GET /healthz HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx: "]
    )
    async def test_one_that_stops_in_the_middle(self, served: Served, start: bytes) -> None:
        reader, writer = await served.connect()
        writer.write(start)
        assert await rest(reader) == b""

    async def test_one_that_goes_on_and_on_slowly(self, served: Served) -> None:
        reader, writer = await served.connect()
        head = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 1000
        assert await trickle(writer, head, reader) < len(head)
        assert await rest(reader) == b""

    async def test_the_second_request_of_a_connection(self, served: Served) -> None:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(served.head("GET /healthz"))
            await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        assert await rest(reader) == b""

    async def test_the_next_request_after_a_body_that_was_answered_early(
        self, served: Served
    ) -> None:
        reader, writer = await answered_early(served)
        writer.write(b"b" * 999 + b"GET /healthz HTTP/1.1\r\n")
        assert await rest(reader) == b""

    async def test_the_second_half_of_a_head_sent_before_an_answer(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(served.head("GET /healthz") + b"GET /healthz HTTP/1.1\r\n")
        assert (await rest(reader)).count(b"HTTP/1.1 200") == 1

    async def test_whoever_is_in_time_is_answered(self, served: Served) -> None:
        head = served.head("GET /healthz")
        reader, writer = await served.connect()
        for at in range(0, len(head), 40):
            writer.write(head[at : at + 40])
            await writer.drain()
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")


async def answered_early(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose caller has its answer, and has sent 1 of the 1000 bytes of its body."""
    reader, writer = await served.connect()
    writer.write(served.head("POST /nothing", "content-length: 1000") + b"a")
    assert b"404" in await reader.readuntil(b"}}")
    return reader, writer


class TestIdle:
    @pytest.fixture
    async def served(self, serve: Serve) -> Served:
        return await serve(limits=SOON | {"idle": 0.1})

    async def test_after_an_answer(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(served.head("GET /healthz"))
        assert b"200 OK" in await rest(reader)

    async def test_after_two_requests_at_once(self, served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(served.head("GET /healthz") * 2)
        assert (await rest(reader)).count(b"200 OK") == 2

    async def test_after_a_body_that_was_answered_early(self, served: Served) -> None:
        reader, writer = await answered_early(served)
        writer.write(b"b" * 999)
        assert await rest(reader) == b""


class TestBodyAnsweredEarly:
    async def test_it_may_take_longer_than_a_head(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"head": 0.1, "idle": 0.1})
        reader, writer = await answered_early(served)
        writer.write(b"b")
        await writer.drain()
        silent, _ = await served.connect()
        assert await rest(silent) == b""  # `head` has passed by now
        writer.write(b"b" * 998 + served.head("GET /healthz"))
        assert b"200 OK" in await rest(reader)

    async def test_one_that_stops(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"stall": 0.1, "rate": 0})
        reader, _ = await answered_early(served)
        assert await rest(reader) == b""

    async def test_one_that_goes_on_too_slowly(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"stall": 0.2, "rate": 100_000})
        reader, writer = await answered_early(served)
        assert await trickle(writer, bytes(998), reader) < 998
        assert await rest(reader) == b""


class TestBody:
    @pytest.fixture
    async def served(self, serve: Serve) -> Served:
        return await serve(limits=SOON | {"stall": 0.3, "rate": 100_000})

    @pytest.mark.parametrize(
        ("kind", "start"),
        [
            ("multipart/form-data; boundary=x", FORM + picture()[:100]),
            ("application/json", b'{"prompt": "a c'),
            ("application/x-www-form-urlencoded", b"prompt=a"),
            ("application/json", b""),
        ],
    )
    @pytest.mark.parametrize("length", ["content-length: 1000000", "transfer-encoding: chunked"])
    async def test_one_that_stops(
        self, served: Served, kind: str, start: bytes, length: str
    ) -> None:
        reader, writer = await served.connect()
        if "chunked" in length:
            start = b"f4240\r\n" + start
        writer.write(served.head("POST /v1/videos", f"content-type: {kind}", length) + start)
        self.refused(served, await rest(reader))

    async def test_one_that_goes_on_too_slowly(self, served: Served) -> None:
        reader, writer = await served.connect()
        kind = ["content-type: multipart/form-data; boundary=x", "content-length: 1000000"]
        writer.write(served.head("POST /v1/videos", *kind) + FORM)
        answered = asyncio.create_task(rest(reader))
        assert await trickle(writer, bytes(100_000), reader) < 100_000
        self.refused(served, await answered)

    def refused(self, served: Served, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head
        assert b"x-should-retry" not in head  # nothing was accepted: it may be sent again
        assert json.loads(body)["error"]["code"] == "body_too_slow"
        assert not any(served.ledger.live.counts.values())
        assert list((served.folder / "inputs").iterdir()) == []

    async def test_what_the_gateway_takes_itself_does_not_count(self, serve: Serve) -> None:
        """A body that has come is not late, however long it waited to be read."""
        served = await serve(limits=SOON | {"stall": 0.05, "rate": 1})
        length = "content-length: 15"
        request = served.head("POST /v1/videos", "content-type: application/json", length)
        status, _, _ = await served.ask(request + b'{"prompt": "a"}')
        assert status == 200


def open_videos() -> int:
    """Videos that this process holds open."""
    return held_open(".mp4")


class TestReader:
    async def stalled(self, served: Served, video: str) -> socket.socket:
        """A connection that asked for the video, and can hold little of it."""
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(line, ("127.0.0.1", served.port))
        await loop.sock_sendall(line, served.head(f"GET /v1/videos/{video}/content"))
        return line

    async def read(
        self, line: socket.socket, piece: int, done: Callable[[int], Any], pause: float = 0.002
    ) -> None:
        """Read slowly, until `done` with so many bytes."""
        loop = asyncio.get_running_loop()
        took = 0
        async with asyncio.timeout(30):
            while not done(took):
                took += len(await loop.sock_recv(line, piece))
                await asyncio.sleep(pause)

    async def test_one_that_takes_nothing_is_cut_off(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"stall": 0.2})
        video = await served.create()
        await complete(served, video, VIDEO)
        line = await self.stalled(served, video)
        await until(open_videos)
        await until(lambda: not open_videos())
        assert served.job(video).fetched_at is None
        line.close()

    async def test_one_that_takes_too_little_is_cut_off(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"stall": 0.4, "rate": 100_000_000})
        video = await served.create()
        await complete(served, video, VIDEO)
        line = await self.stalled(served, video)
        await until(open_videos)
        await self.read(line, 1280, lambda _: not open_videos(), 0.01)  # some in each span
        assert served.job(video).fetched_at is None
        line.close()

    async def test_a_slow_one_gets_all_of_it(self, serve: Serve) -> None:
        served = await serve(limits=SOON | {"stall": 0.5, "rate": 1})
        video = await served.create()
        await complete(served, video, VIDEO)
        line = await self.stalled(served, video)
        await self.read(line, 50_000, lambda took: took > len(VIDEO))  # its head was read, too
        await until(lambda: served.job(video).fetched_at)
        line.close()


@pytest.mark.parametrize(
    ("before", "after", "bad"),
    [
        (0, 0, 0),
        (0, 99, 0),
        (99, 0, 0),
        (99, 99, 3),
        (99, 90, 3),
        (99, 89, 0),
    ],
)
def test_a_span_of_reading_too_little(before: int, after: int, bad: int) -> None:
    """The third in a row, where 10 bytes is the least."""
    assert bad_spans(2, before, after, 10.0) == bad


@pytest.mark.parametrize("rate", [1100, 1488, 5921])
@pytest.mark.parametrize("lump", [32_000, 64_000])
def test_an_honest_reader_whose_bytes_go_out_in_lumps(rate: int, lump: int) -> None:
    """30 seconds a span, 1000 bytes a second at least."""
    taken = [rate * 30 * span // lump * lump for span in range(100)]
    worst = bad = 0
    for before, after in pairwise(10**8 - each for each in taken):
        bad = bad_spans(bad, before, after, 30_000.0)
        worst = max(worst, bad)
    assert worst < BAD_SPANS


class TestTooManyConnections:
    @pytest.fixture
    async def served(self, serve: Serve) -> Served:
        return await serve(limits=SOON | {"connections": 2})

    async def fill(self, served: Served) -> list[asyncio.StreamWriter]:
        lines = [await served.connect() for _ in range(2)]
        for reader, writer in lines:
            writer.write(served.head("GET /healthz"))
            await reader.readuntil(b'{"status":"ok"}')
        return [writer for _, writer in lines]

    async def test_whoever_comes_is_told_so_and_closed_at_once(self, served: Served) -> None:
        await self.fill(served)
        before = sockets_here()
        for _ in range(5):  # none of them says anything
            reader, writer = await served.connect()
            head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in head
            assert b"retry-after: " in head
            assert json.loads(body)["error"]["code"] == "too_many_connections"
            writer.transport.abort()
            await until(lambda: sockets_here() == before)

    async def test_a_place_that_becomes_free_is_given_again(self, served: Served) -> None:
        first, _ = await self.fill(served)
        first.close()
        async with asyncio.timeout(10):
            while not await self.answered(served):
                pass

    async def answered(self, served: Served) -> bool:
        try:
            return (await served.ask(served.head("GET /healthz")))[0] == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


def sockets_here() -> int:
    """Sockets that this process holds open."""
    return held_open("socket:")
