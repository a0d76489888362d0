"""Out through a company's proxy, and to a server whose authority the company made itself."""

import asyncio

from gateway.outcome import Verdict

from .bench import KEY, calling, http, serving
from .conftest import Tls

VIDEO = http(200, {"id": "video_1", "status": "in_progress", "progress": 40})


def tunnel_to(port: int):  # type: ignore[no-untyped-def]
    """A proxy that opens the tunnel that it is asked for."""

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pipe(reader, back), pipe(there, writer), return_exceptions=True)

    asked: list[bytes] = []
    return proxy, asked


async def test_a_plain_upstream_is_asked_through_the_proxy() -> None:
    async with (
        serving(VIDEO) as proxy,
        calling("http://upstream.example:8000", proxy=proxy.url) as upstream,
    ):
        outcome = await upstream.poll("video_1")
    assert outcome.verdict is Verdict.OBSERVED
    (request,) = proxy.seen
    assert request.path == "http://upstream.example:8000/v1/videos/video_1"
    assert request.header("host") == "upstream.example:8000"


async def test_an_encrypted_one_through_a_tunnel_that_never_sees_the_key(tls: Tls) -> None:
    async with serving(VIDEO, tls=tls.server) as server:
        proxy, asked = tunnel_to(server.port)
        listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
        async with listening:
            address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            url = f"https://localhost:{server.port}"
            async with calling(url, proxy=address, ca_file=tls.ca_file) as upstream:
                outcome = await upstream.poll("video_1")
    assert outcome.verdict is Verdict.OBSERVED
    assert server.seen[0].header("authorization") == KEY
    assert asked[0].startswith(f"CONNECT localhost:{server.port} HTTP/1.1".encode())
    assert KEY.encode() not in b"".join(asked)


async def test_an_authority_that_nobody_named_is_not_trusted(tls: Tls) -> None:
    async with (
        serving(VIDEO, tls=tls.server) as server,
        calling(f"https://localhost:{server.port}") as upstream,
    ):
        assert (await upstream.poll("video_1")).verdict is Verdict.UNSENT
    assert server.seen == []
