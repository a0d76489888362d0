"""A poll over real sockets. It may be made again, so whatever goes wrong is `unavailable`."""

import asyncio
import gzip

import pytest
from crashes.processes import free_port

from gateway.outcome import Verdict

from .bench import KEY, calling, http, reset, serving, then_close, then_hang

VIDEO = http(200, {"id": "video_1", "status": "in_progress", "progress": 40})
MISSING = {"error": {"message": "no such video", "type": "t", "param": None, "code": "c"}}


async def test_a_poll_reads_the_video_object() -> None:
    async with serving(VIDEO) as server, calling(server.url) as upstream:
        outcome = await upstream.poll("video_1")
    assert (outcome.verdict, outcome.progress) == (Verdict.OBSERVED, 40)
    (request,) = server.seen
    assert (request.method, request.path, request.body) == ("GET", "/v1/videos/video_1", b"")
    assert request.header("authorization") == KEY
    assert request.header("accept-encoding") == "identity"


async def test_a_base_url_may_have_a_path() -> None:
    async with serving(VIDEO) as server, calling(f"{server.url}/openai/") as upstream:
        await upstream.poll("video_1")
    assert server.seen[0].path == "/openai/v1/videos/video_1"


@pytest.mark.parametrize("upstream_id", ["a/b", "../secrets", "a?x=1", "a#b", "a b", "ä", "%2e"])
async def test_an_id_never_becomes_another_path(upstream_id: str) -> None:
    async with serving(VIDEO) as server, calling(server.url) as upstream:
        await upstream.poll(upstream_id)
    path = server.seen[0].path
    assert path.startswith("/v1/videos/")
    assert path.count("/") == 3
    assert "?" not in path


async def test_polls_share_a_connection() -> None:
    async with serving(VIDEO) as server, calling(server.url) as upstream:
        for _ in range(3):
            await upstream.poll("video_1")
    assert [request.connection for request in server.seen] == [1, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reset, id="reset"),
        pytest.param(then_close(b""), id="eof"),
        pytest.param(then_close(VIDEO[:-10]), id="eof in the body"),
        pytest.param(then_close(b"garbage\r\n\r\n"), id="garbage"),
        pytest.param(http(200, b"<html>hello</html>"), id="html"),
        pytest.param(http(200, b'{"status": "completed"'), id="broken JSON"),
        pytest.param(http(200, b'{"status":"completed","x":"' + b"x" * 2**21 + b'"}'), id="huge"),
        pytest.param(http(200, b"\xff\xfe\x00"), id="no UTF-8"),
        pytest.param(
            http(200, gzip.compress(b'{"status": "completed"}'), "content-encoding: gzip"),
            id="compressed",
        ),
        pytest.param(http(404, b"<html>404</html>"), id="404 of no provider"),
        pytest.param(http(502, b""), id="502"),
        pytest.param(http(302, b"", "location: http://127.0.0.1:9/"), id="redirect"),
        pytest.param(http(302, b"", "location: http://[nonsense/"), id="nonsense redirect"),
    ],
)
async def test_whatever_goes_wrong_is_unavailable(answer) -> None:
    async with serving(answer) as server, calling(server.url) as upstream:
        outcome = await upstream.poll("video_1")
    assert outcome.verdict is Verdict.UNAVAILABLE
    assert outcome.touched
    assert len(server.seen) == 1


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", VIDEO[:-5]])
async def test_no_answer_within_its_time_is_unavailable(begin: bytes) -> None:
    async with serving(then_hang(begin)) as server, calling(server.url, poll=0.3) as upstream:
        assert (await upstream.poll("video_1")).verdict is Verdict.UNAVAILABLE


async def test_endless_json_is_cut_off() -> None:
    async def endless(_request, writer) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"status": "')
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(endless) as server, calling(server.url) as upstream:
        async with asyncio.timeout(5):  # long before the poll's own deadline
            assert (await upstream.poll("video_1")).verdict is Verdict.UNAVAILABLE


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
async def test_a_progress_that_is_no_json_is_no_progress(word: str) -> None:
    body = f'{{"status": "completed", "progress": {word}}}'.encode()
    async with serving(http(200, body)) as server, calling(server.url) as upstream:
        outcome = await upstream.poll("video_1")
    assert (outcome.verdict, outcome.progress) == (Verdict.FINISHED, None)


async def test_a_missing_video_is_told_from_a_missing_server() -> None:
    async with serving(http(404, MISSING)) as server, calling(server.url) as upstream:
        assert (await upstream.poll("video_1")).verdict is Verdict.MISSING


@pytest.mark.parametrize("host", ["127.0.0.1", "upstream.invalid"])
async def test_a_poll_that_reached_nobody_is_unsent(host: str) -> None:
    async with calling(f"http://{host}:{free_port()}") as upstream:
        outcome = await upstream.poll("video_1")
    assert outcome.verdict is Verdict.UNSENT
    assert not outcome.touched
