"""Bytes that are no good HTTP, on a real port: an answer in the envelope, and nothing more."""

import asyncio
import json
import os

import pytest
from stage import mp4

from .bench import complete
from .served import Serve, Served

CHUNKED = "transfer-encoding: chunked"
JSON = "content-type: application/json"
BODY = b'{"prompt": "a cat"}'


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()


async def answers(served: Served, request: bytes) -> list[tuple[int, bytes]]:
    """Every answer that a connection gives until the server closes it: status, body."""
    reader, writer = await served.connect()
    writer.write(request)
    told: list[tuple[int, bytes]] = []
    async with asyncio.timeout(20):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionResetError):
                break
            lines = head.lower().split(b"\r\n")
            length = next(int(x[15:]) for x in lines if x.startswith(b"content-length:"))
            told.append((int(head.split(b" ")[1]), await reader.readexactly(length)))
            if b"connection: close" not in lines:
                continue
            assert await reader.read() == b""
            break
    writer.close()
    return told


def code(body: bytes) -> str:
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["code"])


@pytest.mark.parametrize(
    ("request_bytes", "status", "told"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, "invalid_http"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_http"),
        (b"GET\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "invalid_http"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400, "invalid_http"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nhost: a\x00b\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nho st: a\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nx: 1\r\n folded\r\n\r\n", 400, "invalid_http"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "invalid_http"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nconnection: close\r\n\r\n", 414, "url_too_long"),
        (b"GET /?" + b"x" * 9000 + b" HTTP/1.1\r\nconnection: close\r\n\r\n", 414, "url_too_long"),
        (b"GET /" + b"x" * 100_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nx: " + b"x" * 100_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, 431, "headers_too_large"),
        (b"\r\n" * 50_000, 431, "headers_too_large"),
    ],
)
async def test_what_is_no_request(
    served: Served, request_bytes: bytes, status: int, told: str
) -> None:
    (answer,) = await answers(served, request_bytes)
    assert (answer[0], code(answer[1])) == (status, told)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["content-length: 19", CHUNKED], b"0\r\n\r\n"),
        ([CHUNKED, "content-length: 19"], b"0\r\n\r\n"),
        (["content-length: 19", "content-length: 18"], BODY),
        (["content-length: 19", "content-length: 19"], BODY),
        (["content-length: -1"], BODY),
        (["content-length: +19"], BODY),
        (["content-length: 0x13"], BODY),
        (["content-length: 19, 19"], BODY),
        (["content-length: 1 9"], BODY),
        (["content-length:"], BODY),
        (["content-length: " + "9" * 30], BODY),
        (["transfer-encoding: chunked, identity"], BODY),
        (["transfer-encoding: xchunked"], BODY),
        ([CHUNKED], b"-1\r\n" + BODY),
        ([CHUNKED], b"zz\r\n" + BODY),
        ([CHUNKED], b"ffffffffffffffffff\r\n" + BODY),
        ([CHUNKED], b"13\r\n" + BODY + b"garbage\r\n0\r\n\r\n"),
        ([CHUNKED], b"13\n" + BODY + b"\n0\n\n"),
    ],
)
async def test_lengths_that_can_be_read_in_two_ways(
    served: Served, lines: list[str], body: bytes
) -> None:
    request = served.head("POST /v1/videos", JSON, "connection: close", *lines) + body
    (answer,) = await answers(served, request)
    assert answer[0] == 400
    assert code(answer[1]) in ("invalid_http", "invalid_headers")
    assert not any(served.ledger.live.counts.values())


@pytest.mark.parametrize("name", ["host", "authorization", "content-type", "idempotency-key"])
async def test_a_header_that_must_be_one(served: Served, name: str) -> None:
    request = served.head("POST /v1/videos", JSON, "content-length: 19", *[f"{name}: other"] * 2)
    (answer, *_) = await answers(
        served, request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    )
    assert (answer[0], code(answer[1])) == (400, "invalid_headers")


@pytest.mark.parametrize(("count", "status"), [(100, 200), (101, 431)])
async def test_so_many_headers_and_no_more(served: Served, count: int, status: int) -> None:
    told = served.head("GET /healthz")
    have = told.count(b"\r\n") - 2
    more = [f"x-{number}: 1" for number in range(count - have)]
    assert (await served.ask(served.head("GET /healthz", *more)))[0] == status


@pytest.mark.parametrize(("size", "status"), [(16 * 1024, 200), (16 * 1024 + 1, 431)])
async def test_so_many_bytes_of_headers_and_no_more(served: Served, size: int, status: int) -> None:
    lines = served.head("GET /healthz", "x: ").split(b"\r\n")[1:]
    have = sum(len(line.replace(b": ", b"")) for line in lines)  # names and values
    assert (await served.ask(served.head("GET /healthz", "x: " + "y" * (size - have))))[0] == status


@pytest.mark.parametrize("tail", [b"x: " + b"y" * 10_000_000, b"x: y\r\n" * 1_000_000])
async def test_a_trailer_without_end(served: Served, tail: bytes) -> None:
    reader, writer = await served.connect()
    writer.write(served.head("POST /v1/videos", JSON, CHUNKED) + b"1\r\n{\r\n0\r\n")
    writer.write(tail)
    async with asyncio.timeout(20):
        assert b" 431 " in await reader.readline()
    writer.transport.abort()


async def test_a_chunks_size_without_end(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.head("POST /v1/videos", JSON, CHUNKED) + b"1;" + b"x" * 10_000_000)
    async with asyncio.timeout(20):
        assert b" 431 " in await reader.readline()
    writer.transport.abort()


async def test_a_trailer_is_no_header(served: Served) -> None:
    """Nothing in front of the gateway has looked at it."""
    head = (
        f"POST /v1/videos HTTP/1.1\r\nhost: x\r\n{JSON}\r\n{CHUNKED}\r\nconnection: close\r\n\r\n"
    )
    body = b"13\r\n" + BODY + f"\r\n0\r\nauthorization: {served.key}\r\n\r\n".encode()
    ((status, _),) = await answers(served, head.encode() + body)
    assert status == 401


async def test_one_request_may_wait_behind_another(served: Served) -> None:
    """A third one that comes before the first is answered ends the connection, unread."""
    one = served.head("POST /v1/videos", JSON, "content-length: 19") + BODY
    told = await answers(served, one * 10_000)
    assert [status for status, _ in told] == [200, 200]
    assert sum(served.ledger.live.counts.values()) == 2


@pytest.mark.parametrize("end", [b"", b"zz\r\n", b"1;" + b"x" * 1_000_000])
async def test_one_that_waits_and_is_no_http_does_not_spoil_the_answer_before(
    served: Served, end: bytes
) -> None:
    one = served.head("POST /v1/videos", JSON, "content-length: 19") + BODY
    other = served.head("POST /v1/videos", JSON, CHUNKED, "connection: close")
    whole = b"13\r\n" + BODY + b"\r\n0\r\n\r\n"
    told = await answers(served, one + other + (end or whole))
    statuses = [status for status, _ in told]
    if end:  # what comes before the first answer is dropped, what comes after has an answer too
        assert statuses in ([200], [200, 400], [200, 431])
    else:
        assert statuses == [200, 200]


async def test_what_comes_behind_one_that_waits_is_not_received(served: Served) -> None:
    """Not even by a download that asks again and again whether its caller is still there."""
    content = mp4(os.urandom(24_000_000))
    video = await served.create()
    await complete(served, video, content)
    reader, writer = await served.connect()
    length = "content-length: 9000000"
    writer.write(served.head(f"GET /v1/videos/{video}/content"))
    writer.write(served.head("POST /v1/videos", JSON, length))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(bytes(9_000_000))
    for _ in range(20):
        await reader.readexactly(1_000_000)
    assert writer.transport.get_write_buffer_size() > 1_000_000
    await reader.readexactly(len(content) - 20_000_000)
    assert b" 400 " in await reader.readuntil(b"\r\n")


async def test_hanging_up_while_one_waits_ends_the_one_before(served: Served) -> None:
    video = await served.create()
    await complete(served, video, mp4(os.urandom(24_000_000)))
    reader, writer = await served.connect()
    writer.write(served.head(f"GET /v1/videos/{video}/content") + served.head("GET /healthz"))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    route = b'{method="GET",route="/v1/videos/{id}/content",status="200"} 1.0'
    async with asyncio.timeout(10):
        while route not in (told := (await served.ask(served.head("GET /metrics")))[2]):
            pass
    assert b'route="/healthz"' not in told
    assert served.job(video).fetched_at is None


async def test_garbage_after_a_request_does_not_spoil_its_answer(served: Served) -> None:
    one = served.head("POST /v1/videos", JSON, "content-length: 19") + BODY
    told = await answers(served, one + b"\x00\x01 garbage\r\n\r\n")
    assert [status for status, _ in told] == [200]


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_another_protocol_is_not_offered(served: Served, upgrade: str) -> None:
    key = ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13"]
    lines = [f"upgrade: {upgrade}", "connection: Upgrade", *key]
    asked = served.head("GET /healthz", *lines)
    told = await answers(served, asked)
    assert told == [(200, b'{"status":"ok"}')]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_the_body_of_a_request_that_offers_another_protocol_is_read(
    served: Served, chunked: bool, piece: int
) -> None:
    """As Java's HttpClient sends each of its requests, and `curl --http2`."""
    offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]
    parts = b"c\r\n%b\r\n7\r\n%b\r\n0\r\n\r\n" % (BODY[:12], BODY[12:])
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(BODY)}"
    asked = served.head("POST /v1/videos", JSON, *offer, framing) + (parts if chunked else BODY)
    reader, writer = await served.connect()
    for at in range(0, len(asked), piece):
        writer.write(asked[at : at + piece])
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(served.head("GET /healthz") + b"not read any more")
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["prompt"] == "a cat"
    writer.close()


async def test_the_body_of_an_upgrade_keeps_to_http(served: Served) -> None:
    offer = ["Connection: Upgrade", "Upgrade: h2c", "transfer-encoding: chunked"]
    told = await answers(served, served.head("POST /v1/videos", JSON, *offer) + b"no chunk\r\n")
    assert [(status, code(body)) for status, body in told] == [(400, "invalid_http")]


@pytest.mark.parametrize(
    "host",
    [
        '"><script>',
        "a b",
        "[",
        "[::1",
        "x/../y",
        "user@evil",
        "evil.example:99999999",
        "",
        "a,b",
        "%",
    ],
)
async def test_an_odd_host_is_not_told_on(served: Served, host: str) -> None:
    video = await served.create()
    await complete(served, video)
    head = served.head(f"GET /v1/videos/{video}").replace(b"gateway.test", host.encode())
    status, _, body = await served.ask(head)
    assert status == 200
    assert json.loads(body)["url"].startswith(f"http://127.0.0.1:{served.port}/v1/")


async def test_an_absolute_address_is_a_path(served: Served) -> None:
    status, _, _ = await served.ask(served.head("GET http://evil.example/healthz"))
    assert status == 200


METHODS = ["GET", "HEAD", "DELETE"]


@pytest.mark.parametrize(
    "name",
    ["x" * 7000, "%00", "%2e%2e", "%ff", "%ed%a0%80", "a%0d%0ab", ";", "a?b", "%25", "..;", "*"],
)
async def test_an_odd_id_is_the_same_404(served: Served, name: str) -> None:
    _, _, expected = await served.ask(served.head("GET /v1/videos/video_1"))
    for end in ("", "/content"):
        for method in METHODS[: 2 if end else 3]:
            status, _, body = await served.ask(served.head(f"{method} /v1/videos/{name}{end}"))
            assert (status, body) == (404, b"" if method == "HEAD" else expected), (method, name)
