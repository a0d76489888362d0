"""SIGTERM to a real gateway in the middle of its work: what is paid for is waited for, the rest is
cut off and goes on at the next start.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from stage import until

from .conftest import MakeServer
from .server import Server
from .upstream import Upstream

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

pytestmark = pytest.mark.anyio

GRACE = ("[timeouts]", "submit = 20")


async def create(server: Server, prompt: str) -> str:
    async with server.ask() as client:
        return str((await client.post("/videos", json={"prompt": prompt})).json()["id"])


@asynccontextmanager
async def sent(server: Server, *lines: str, body: bytes = b"") -> AsyncIterator[Connection]:
    """A connection on which a request's head was sent, and `body`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "\r\n".join([*lines, "host: 127.0.0.1", "", ""])
    writer.write(head.encode() + body)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_under_load(upstream: Upstream, make_server: MakeServer) -> None:
    server = make_server(upstream.url, *GRACE)
    await server.start()
    upstream.answer_posts.set()
    upstream.send_all.set()
    whole = await create(server, "stored")
    await until(lambda: server.states() == ["completed"])

    body = b'{"prompt": "uploaded"}'
    kind = ("content-type: application/json", f"content-length: {len(body)}")
    async with (
        sent(server, f"GET /v1/videos/{whole}/content HTTP/1.1") as (slow, _),
        sent(server, "POST /v1/videos HTTP/1.1", *kind, body=body[:10]) as (uploading, upload),
        sent(server, "GET /healthz HTTP/1.1") as (idle, _),
    ):
        await slow.readuntil(b"\r\n\r\n")  # and reads no further for now
        await idle.readuntil(b"\r\n\r\n")
        upstream.send_all.clear()
        await create(server, "on its way here")
        await until(lambda: upstream.halves == 1)
        upstream.answer_posts.clear()
        await create(server, "being sent")
        await until(lambda: upstream.posts == 3)

        server.tell(signal.SIGTERM)
        await until(lambda: upstream.cut == 1)  # the download, though the POST is waited for
        await refuses(server)
        await idle.read()  # to its end: the gateway has closed it
        upload.write(body[10:])
        assert (await uploading.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        upstream.answer_posts.set()
        assert await slow.readexactly(len(upstream.video)) == upstream.video
    assert await server.ended() == -signal.SIGTERM
    assert server.states() == ["completed", "fetching", "running", "queued"]
    assert server.read("SELECT count(*) FROM calls WHERE ended IS NULL") == [(0,)]

    upstream.send_all.set()
    await server.start()
    await until(lambda: server.states() == ["completed"] * 4)
    assert upstream.posts == 4
    (resumed,) = upstream.ranges
    assert int(resumed.removeprefix("bytes=").rstrip("-")) > len(upstream.video) // 3


async def refuses(server: Server) -> None:
    """Wait until no new connection is taken."""
    async with asyncio.timeout(20):
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", server.port))[1].close()
            except ConnectionError:  # refused, or reset while it closes
                return
            await asyncio.sleep(0.02)


async def test_a_caller_who_reads_nothing_is_cut_off_when_the_grace_is_over(
    upstream: Upstream, make_server: MakeServer
) -> None:
    server = make_server(upstream.url)
    await server.start()
    upstream.answer_posts.set()
    upstream.send_all.set()
    whole = await create(server, "stored")
    await until(lambda: server.states() == ["completed"])
    await server.stop()
    grace = 1  # longer than any submit may take: too short for one on a busy machine
    await server.start(VIDEO_GATEWAY_SERVER__GRACE=str(grace), VIDEO_GATEWAY_TIMEOUTS__SUBMIT="0.5")
    async with sent(server, f"GET /v1/videos/{whole}/content HTTP/1.1") as (slow, _):
        await slow.readuntil(b"\r\n\r\n")
        told = time.monotonic()
        server.tell(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        assert time.monotonic() - told >= grace
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await slow.readexactly(len(upstream.video))
    assert '"event": "stopped"' in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_cuts_off_everything(
    upstream: Upstream, make_server: MakeServer, number: signal.Signals
) -> None:
    server = make_server(upstream.url, "[timeouts]", "submit = 500")
    await server.start(VIDEO_GATEWAY_SERVER__GRACE="600")
    await create(server, "being sent")
    await until(lambda: upstream.posts == 1)
    server.tell(number)
    await refuses(server)
    assert upstream.cut == 0
    server.tell(number)
    await server.ended()
    assert '"calls_cut": 1' in server.log.read_text()
    upstream.answer_posts.set()
    await server.start(VIDEO_GATEWAY_SERVER__GRACE="600")
    async with server.ask() as client:
        (video,) = (await client.get("/videos")).json()["data"]
    assert video["error"]["code"] == "submission_outcome_unknown"
    assert upstream.posts == 1


async def test_a_start_that_fails_half_way_says_so_in_one_line(make_server: MakeServer) -> None:
    server = make_server()
    (server.data / "videos" / "aa" / "stray-0.mp4").mkdir(parents=True)
    (line,) = await server.refusal()
    assert line.startswith(f"video-gateway: the data folder {server.data} can't be used: ")


async def test_a_port_that_is_taken_ends_it_properly(
    upstream: Upstream, make_server: MakeServer
) -> None:
    server = make_server()
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", server.port)
    async with taken:
        await server.run()
        assert await server.ended() == 3
    log = server.log.read_text()
    assert "address already in use" in log
    assert '"event": "stopped"' in log
    assert "Traceback" not in log
