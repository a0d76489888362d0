"""On a real port: what only a connection can show."""

import asyncio
import json
import os
import tempfile
from collections.abc import MutableMapping
from typing import Any

import pytest
from stage import held_open, mp4, picture, until

from .bench import complete
from .served import Serve, Served

VIDEO = mp4(os.urandom(3_000_000))
FORM = b'--x\r\ncontent-disposition: form-data; name="input_reference"; filename="i"\r\n\r\n'


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()


async def test_a_video_is_streamed_whole_and_by_ranges(served: Served) -> None:
    video = await served.create()
    await complete(served, video, VIDEO)
    path = f"/v1/videos/{video}/content"
    assert (await served.ask(served.head(f"GET {path}")))[2] == VIDEO
    status, headers, body = await served.ask(served.head(f"GET {path}", "range: bytes=1000000-"))
    assert (status, body) == (206, VIDEO[1_000_000:])
    status, headers, _ = await served.ask(served.head(f"HEAD {path}"))
    assert (status, headers["content-length"]) == (200, str(len(VIDEO)))


async def test_the_next_request_may_come_as_soon_as_a_videos_last_byte_is_there(
    served: Served,
) -> None:
    video = await served.create()
    await complete(served, video)
    content, other = served.head(f"GET /v1/videos/{video}/content"), served.head("GET /healthz")
    reader, writer = await served.connect()
    for _ in range(300):
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(x for x in head.split(b"\r\n") if x.startswith(b"content-length: "))
        await reader.readexactly(int(length[16:]))
        writer.write(other)
        assert b" 200 OK" in await reader.readuntil(b'{"status":"ok"}')


async def test_the_message_with_a_videos_last_byte_is_the_last(served: Served) -> None:
    video = await served.create()
    await complete(served, video, VIDEO)
    sent: list[MutableMapping[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v1/videos/{video}/content",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"authorization", f"Bearer {served.key}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "scheme": "http",
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await served.gateway.app(scope, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == VIDEO
    assert sent[-1]["body"]
    assert [message["more_body"] for message in sent[1:]].index(False) == len(sent) - 2


async def test_what_was_opened_is_read_to_its_end_though_it_is_deleted(served: Served) -> None:
    video = await served.create()
    await complete(served, video, VIDEO)
    reader, writer = await served.connect()
    writer.write(served.head(f"GET /v1/videos/{video}/content"))
    await reader.readuntil(b"\r\n\r\n")
    (file,) = (served.folder / "videos").glob("*/*.mp4")
    file.unlink()
    assert await reader.readexactly(len(VIDEO)) == VIDEO
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "path",
    ["/v1/videos/../../etc/passwd", "/v1/videos/..", "/v1/videos/a%2Fb", "/v1/videos/%2e%2e/x"],
)
async def test_a_path_is_never_resolved(served: Served, path: str) -> None:
    status, _, body = await served.ask(served.head(f"GET {path}"))
    assert status == 404
    assert json.loads(body)["error"]["code"] == "video_not_found"


async def test_hanging_up_in_the_middle_of_an_upload_leaves_nothing(served: Served) -> None:
    _, writer = await served.connect()
    kind = ["content-type: multipart/form-data; boundary=x", "content-length: 5000000"]
    part = b'--x\r\ncontent-disposition: form-data; name="input_reference"; filename="i"\r\n\r\n'
    writer.write(served.head("POST /v1/videos", *kind) + part + picture())
    await writer.drain()
    writer.transport.abort()
    told = b""
    async with asyncio.timeout(5):
        while b'method="POST"' not in told:
            told = (await served.ask(served.head("GET /metrics")))[2]
    assert b'{method="POST",route="/v1/videos",status="400"} 1.0' in told
    assert not any(served.ledger.live.counts.values())
    assert list((served.folder / "inputs").iterdir()) == []


def spools() -> list[str]:
    """Files without a name that this process holds open: what is arriving."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    folder = tempfile.gettempdir()
    told = [os.readlink(name) for name in names if os.path.exists(os.path.dirname(name))
            and os.path.islink(name)]  # fmt: skip
    return [name for name in told if name.startswith(folder) and name.endswith("(deleted)")]


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("multipart/form-data; boundary=x", FORM + bytes(500_000)),
        ("application/json", b'{"prompt": "' + b"x" * 500_000),
        ("application/x-www-form-urlencoded", b"prompt=" + b"x" * 500_000),
    ],
)
async def test_nothing_is_left_of_an_upload_that_was_on_the_disk(
    served: Served, kind: str, start: bytes
) -> None:
    before = len(spools())
    _, writer = await served.connect()
    lines = [f"content-type: {kind}", "content-length: 900000"]
    writer.write(served.head("POST /v1/videos", *lines) + start)
    await until(lambda: len(spools()) > before)
    writer.transport.abort()
    await until(lambda: len(spools()) == before)
    assert not any(served.ledger.live.counts.values())
    assert list((served.folder / "inputs").iterdir()) == []


async def test_a_caller_whose_answer_was_lost_gets_the_same_job(served: Served) -> None:
    kind = ["content-type: application/json", "content-length: 19", "idempotency-key: k"]
    request = served.head("POST /v1/videos", *kind) + b'{"prompt": "a cat"}'
    _, writer = await served.connect()
    writer.write(request)
    (video,) = await until(lambda: list(served.ledger.live.jobs))
    writer.transport.abort()  # it never reads what it was answered
    status, _, answer = await served.ask(request)
    assert (status, json.loads(answer)["id"]) == (200, video)
    assert list(served.ledger.live.jobs) == [video]


async def test_hanging_up_in_the_middle_of_a_download_harms_nobody(served: Served) -> None:
    video = await served.create()
    await complete(served, video, VIDEO)
    _, writer = await served.connect()
    writer.write(served.head(f"GET /v1/videos/{video}/content"))
    await writer.drain()
    writer.transport.abort()
    content = served.head(f"GET /v1/videos/{video}/content")
    assert (await served.ask(content))[2] == VIDEO


@pytest.mark.parametrize("offer", [[], ["Connection: Upgrade", "Upgrade: h2c"]])
@pytest.mark.parametrize("order", [1, -1])
async def test_content_length_and_transfer_encoding_are_refused(
    served: Served, order: int, offer: list[str]
) -> None:
    both = ["content-length: 5", "transfer-encoding: chunked"][::order]
    status, _, body = await served.ask(served.head("POST /v1/videos", *offer, *both) + b"0\r\n\r\n")
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_http")


async def test_too_many_headers_are_431_in_openais_shape(served: Served) -> None:
    many = [f"x-{number}: 1" for number in range(150)]
    status, _, body = await served.ask(served.head("GET /healthz", *many))
    assert status == 431
    assert json.loads(body)["error"]["code"] == "headers_too_large"


async def test_a_chunked_upload_without_a_length_is_taken(served: Served) -> None:
    """As openai-node sends a stream."""
    image = picture()
    body = (
        b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na cat\r\n'
        b'--x\r\ncontent-disposition: form-data; name="input_reference"; filename="blob"\r\n'
        b"content-type: application/octet-stream\r\n\r\n" + image + b"\r\n--x--\r\n"
    )
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 50]), body[at : at + 50])
        for at in range(0, len(body), 50)
    )
    kind = ["content-type: multipart/form-data; boundary=x", "transfer-encoding: chunked"]
    request = served.head("POST /v1/videos", *kind) + chunks + b"0\r\n\r\n"
    status, _, answer = await served.ask(request)
    assert status == 200
    job = served.job(json.loads(answer)["id"])
    assert job.input_type == "image/png"
    assert (served.folder / "inputs" / job.input_sha256).read_bytes() == image


async def test_a_body_far_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    kind = ["content-type: multipart/form-data; boundary=x", "content-length: 1000000000"]
    status, headers, body = await served.ask(served.head("POST /v1/videos", *kind))
    assert status == 413
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["code"] == "body_too_large"


async def test_it_has_closed_its_files(served: Served) -> None:
    video = await served.create()
    await complete(served, video, VIDEO)
    for asked in ("bytes=0-5", "bytes=9999999-", "nonsense"):
        await served.ask(served.head(f"GET /v1/videos/{video}/content", f"range: {asked}"))

    await until(lambda: not held_open(".mp4"), 5)
