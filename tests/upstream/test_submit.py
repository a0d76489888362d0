"""A submit over real sockets: what arrives upstream, and what each way to fail proves."""

import asyncio
import gzip
import io
import socket
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest
from crashes.processes import free_port

from gateway.outcome import Outcome, Verdict
from gateway.upstream import client

from .bench import (
    KEY,
    Request,
    bare,
    calling,
    http,
    job,
    reset,
    serving,
    then_close,
    then_hang,
)

ACCEPTED = http(200, {"id": "video_1", "status": "submitted", "progress": 0})
REFUSED = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
BIG = 20_000_000
"""Bytes that no socket takes before somebody reads."""


@pytest.fixture
def image(tmp_path: Path):
    """An input image, open for reading."""
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)) * 40)
    with path.open("rb") as file:
        yield file


class TestOnTheWire:
    async def test_the_form(self, image) -> None:
        async with serving(ACCEPTED) as server, calling(server.url) as upstream:
            wanted = job(prompt="ein Kätzchen\r\n--x", seconds=15, input_type="image/png")
            outcome = await upstream.submit(wanted, image)
        assert (outcome.verdict, outcome.upstream_id) == (Verdict.ACCEPTED, "video_1")
        (request,) = server.seen
        assert (request.method, request.path) == ("POST", "/v1/videos")
        *fields, file = request.parts()
        told = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in fields
        }
        assert told == {
            "prompt": "ein Kätzchen\r\n--x".encode(),
            "model": b"sora-2",
            "size": b"1280x720",
            "seconds": b"15",
        }
        assert not any(part.get_filename() for part in fields)
        assert file.get_param("name", header="content-disposition") == "input_reference"
        assert file.get_filename() == "input.png"
        assert file.get_content_type() == "image/png"
        assert file.get_payload(decode=True) == bytes(range(256)) * 40

    async def test_without_an_image_it_is_multipart_all_the_same(self) -> None:
        async with serving(ACCEPTED) as server, calling(server.url) as upstream:
            await upstream.submit(job(), None)
        (request,) = server.seen
        assert request.header("content-type").startswith("multipart/form-data; boundary=")
        assert len(request.parts()) == 4

    async def test_the_headers(self, image) -> None:
        async with serving(ACCEPTED) as server, calling(server.url) as upstream:
            await upstream.submit(job(input_type="image/jpeg"), image)
        (request,) = server.seen
        assert int(request.header("content-length")) == len(request.body)
        assert request.header("transfer-encoding") is None
        assert request.header("accept-encoding") == "identity"
        assert {name for name, _ in request.headers} == {
            "host",
            "accept",
            "accept-encoding",
            "connection",
            "user-agent",
            "content-length",
            "content-type",
            "authorization",
        }

    @pytest.mark.parametrize(("scheme", "header"), [("", KEY), ("Bearer", f"Bearer {KEY}")])
    async def test_the_key(self, scheme: str, header: str) -> None:
        async with serving(ACCEPTED) as server, calling(server.url, auth_scheme=scheme) as upstream:
            await upstream.submit(job(), None)
        assert server.seen[0].header("authorization") == header

    async def test_each_goes_over_a_connection_of_its_own(self) -> None:
        async with serving(ACCEPTED) as server, calling(server.url) as upstream:
            for _ in range(3):
                await upstream.submit(job(), None)
        assert [request.connection for request in server.seen] == [1, 2, 3]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(http(500, REFUSED), id="an error"),
            pytest.param(http(307, b"", "location: /v1/videos"), id="a redirect to itself"),
            pytest.param(http(408, b"", "connection: close"), id="a wish to hear it again"),
            pytest.param(reset, id="reset"),
            pytest.param(then_close(b""), id="eof"),
            pytest.param(then_close(ACCEPTED[:-10]), id="half an answer"),
            pytest.param(then_hang(), id="nothing"),
        ],
    )
    async def test_it_is_sent_once_whatever_comes_back(self, answer) -> None:
        async with serving(answer) as server, calling(server.url, submit=0.3) as upstream:
            await upstream.submit(job(), None)
        assert len(server.seen) == 1

    async def test_a_redirect_is_not_followed(self) -> None:
        async with serving(ACCEPTED) as other:
            moved = http(307, b"", f"location: {other.url}/v1/videos")
            async with serving(moved) as server, calling(server.url) as upstream:
                assert (await upstream.submit(job(), None)).verdict is Verdict.UNKNOWN
        assert other.seen == []

    async def test_cookies_of_upstream_do_not_matter(self) -> None:
        answer = http(200, {"id": "v"}, "set-cookie: session=1; Path=/")
        async with serving(answer) as server, calling(server.url) as upstream:
            assert (await upstream.submit(job(), None)).verdict is Verdict.ACCEPTED


class TestSurelyUnsent:
    """No place in the window is taken, and the job goes back to the queue."""

    async def test_a_refused_port(self) -> None:
        async with calling(f"http://127.0.0.1:{free_port()}") as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.verdict is Verdict.UNSENT
        assert not outcome.touched

    async def test_a_name_that_does_not_resolve(self) -> None:
        async with calling("http://upstream.invalid") as upstream:
            assert (await upstream.submit(job(), None)).verdict is Verdict.UNSENT

    async def test_a_server_that_takes_no_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "CONNECT_SECONDS", 0.2)
        with socket.socket() as listening, socket.socket() as first:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)  # room for one that nobody takes
            first.connect(listening.getsockname())
            async with calling(f"http://127.0.0.1:{listening.getsockname()[1]}") as upstream:
                outcome = await upstream.submit(job(), None)
        assert outcome == Outcome(Verdict.UNSENT, "ConnectTimeout")

    async def test_a_server_that_speaks_no_tls(self) -> None:
        async def greet(_reader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with calling(f"https://127.0.0.1:{port}") as upstream:
                assert (await upstream.submit(job(), None)).verdict is Verdict.UNSENT

    async def test_a_certificate_of_an_unknown_authority(self, tls) -> None:
        async with (
            serving(ACCEPTED, tls=tls.server) as server,
            calling(f"https://localhost:{server.port}") as upstream,
        ):
            assert (await upstream.submit(job(), None)).verdict is Verdict.UNSENT
        assert server.seen == []

    async def test_a_proxy_that_is_not_there(self) -> None:
        proxy = f"http://127.0.0.1:{free_port()}"
        async with (
            serving(ACCEPTED) as server,
            calling(server.url, proxy=proxy) as upstream,
        ):
            assert (await upstream.submit(job(), None)).verdict is Verdict.UNSENT
        assert server.seen == []


class TestCutOff:
    """The upload ended before its last byte: the window was touched, and no task can exist."""

    @pytest.mark.parametrize("end", [reset, then_close(b"")])
    async def test_the_connection_breaks_in_the_middle(self, end) -> None:
        async with serving() as server, calling(server.url) as upstream:
            server.on_head = end
            outcome = await upstream.submit(job(input_type="image/png"), io.BytesIO(bytes(BIG)))
        assert outcome.verdict is Verdict.CUT_OFF
        assert outcome.touched

    async def test_upstream_stops_reading(self) -> None:
        async with serving() as server, calling(server.url, submit=0.3) as upstream:
            server.on_head = then_hang()
            outcome = await upstream.submit(job(input_type="image/png"), io.BytesIO(bytes(BIG)))
        assert outcome.verdict is Verdict.CUT_OFF

    async def test_the_image_can_not_be_read_to_its_end(self) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() >= 1_000_000:
                    raise OSError("the disk is gone")
                return super().read(size)

        async with serving(ACCEPTED) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(input_type="image/png"), Failing(bytes(2_000_000)))
        assert outcome.verdict is Verdict.CUT_OFF


class TestUnknown:
    """The whole body was handed over, and no answer proves a refusal: nobody can tell."""

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(reset, id="reset"),
            pytest.param(then_close(b""), id="eof"),
            pytest.param(then_close(b"HTTP/1.1 20"), id="eof in the status line"),
            pytest.param(then_close(ACCEPTED[:-10]), id="eof in the body"),
            pytest.param(then_close(b"\x15\x03\x01\x00\x02\x02\x16 garbage\r\n\r\n"), id="garbage"),
            pytest.param(then_close(b"+OK POP3 ready\r\n\r\n"), id="another protocol"),
            pytest.param(bare(200, b"zz\r\n", "transfer-encoding: chunked"), id="bad chunk"),
            pytest.param(http(200, b"<html>fine</html>"), id="html"),
            pytest.param(http(200, b""), id="empty"),
            pytest.param(http(200, b"[1]"), id="a list"),
            pytest.param(http(200, b'{"id": "video_1"'), id="broken JSON"),
            pytest.param(http(200, {"id": 7}), id="an id that is none"),
            pytest.param(http(200, b'{"id":"v","x":"' + b"x" * 2**21 + b'"}'), id="huge JSON"),
            pytest.param(http(200, b"[" * 100_000), id="deep JSON"),
            pytest.param(
                http(200, gzip.compress(b'{"id": "v"}'), "content-encoding: gzip"),
                id="compressed",
            ),
            pytest.param(http(500, b"<html>500</html>"), id="500 of no provider"),
            pytest.param(http(502, b"<html>502</html>"), id="502"),
            pytest.param(http(503, b""), id="503 of no provider"),
            pytest.param(http(504, REFUSED), id="504"),
            pytest.param(http(524, REFUSED), id="524"),
        ],
    )
    async def test_an_end_that_proves_nothing(self, answer) -> None:
        async with serving(answer) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.verdict is Verdict.UNKNOWN
        assert outcome.touched

    @pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", ACCEPTED[:-5]])
    async def test_no_answer_within_its_time(self, begin: bytes) -> None:
        async with serving(then_hang(begin)) as server, calling(server.url, submit=0.3) as upstream:
            assert (await upstream.submit(job(), None)).verdict is Verdict.UNKNOWN

    async def test_an_answer_that_trickles(self) -> None:
        async def trickle(_request: Request, writer: asyncio.StreamWriter) -> None:
            for byte in ACCEPTED:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        async with serving(trickle) as server, calling(server.url, submit=0.4) as upstream:
            assert (await upstream.submit(job(), None)).verdict is Verdict.UNKNOWN


class TestAnswered:
    async def test_nan_is_no_reason_to_lose_an_accepted_task(self) -> None:
        body = b'{"id": "video_1", "status": "queued", "progress": NaN}'
        async with serving(http(200, body)) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert (outcome.verdict, outcome.upstream_id) == (Verdict.ACCEPTED, "video_1")

    @pytest.mark.parametrize("status", [500, 503])
    async def test_the_providers_own_error_proves_a_refusal(self, status: int) -> None:
        async with serving(http(status, REFUSED)) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.verdict is Verdict.UNAVAILABLE

    @pytest.mark.parametrize(
        ("lines", "least", "most"),
        [
            ([], None, None),
            (["retry-after: 17"], 17, 17),
            (["retry-after: 0"], 0, 0),
            (["retry-after: soon"], None, None),
            (["retry-after: -5"], None, None),
            (["retry-after: 1.5"], None, None),
            (["retry-after: "], None, None),
        ],
    )
    async def test_retry_after_in_seconds(self, lines, least, most) -> None:
        async with serving(http(429, REFUSED, *lines)) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.verdict is Verdict.RATE_LIMITED
        if least is None:
            assert outcome.retry_after is None
        else:
            assert least <= outcome.retry_after <= most

    @pytest.mark.parametrize(("ahead", "least", "most"), [(3600, 3000, 3600), (-3600, 0, 0)])
    async def test_retry_after_as_a_date(self, ahead: float, least: float, most: float) -> None:
        line = f"retry-after: {formatdate(time() + ahead, usegmt=True)}"
        async with serving(http(429, REFUSED, line)) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.retry_after is not None
        assert least <= outcome.retry_after <= most

    async def test_the_key_is_taken_out_of_what_upstream_says(self) -> None:
        error = {"message": f"Incorrect API key provided: {KEY}", "code": f"bad_{KEY}"}
        async with serving(http(401, {"error": error})) as server, calling(server.url) as upstream:
            outcome = await upstream.submit(job(), None)
        assert outcome.verdict is Verdict.DENIED
        assert "Incorrect API key provided" in outcome.message
        assert KEY not in repr(outcome)
