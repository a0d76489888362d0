"""A download over real sockets into a real part: never torn, never given up while bytes come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from crashes.processes import free_port
from stage import mp4

from gateway.content.disk import Disk
from gateway.content.part import Part
from gateway.outcome import Verdict

from .bench import (
    KEY,
    Request,
    bare,
    calling,
    http,
    reset,
    serving,
    then_close,
    then_hang,
)

VIDEO = mp4(bytes(range(256)) * 2000)
OTHER = mp4(b"another" * 70_000)
HALF = len(VIDEO) // 2
ETAG = 'etag: "one"'

Begin = Callable[[], Awaitable[Part]]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Takes up the part of one video."""

    async def taken_up(max_bytes: int = 10_000_000) -> Part:
        part = Part(Disk(), tmp_path, "video_ours", "this boot", max_bytes)
        await part.resume()
        return part

    return taken_up


async def content_of(part: Part) -> bytes:
    await part.flush()
    assert part.path.stat().st_size == part.offset
    return part.path.read_bytes()


def cut(data: bytes, at: int, *lines: str) -> object:
    """An answer that announces all of `data`, and breaks off after `at` bytes."""
    whole = http(200, data, *lines)
    return then_close(whole[: len(whole) - len(data) + at])


def rest(data: bytes, begin: int, *lines: str) -> bytes:
    """A 206 from `begin` to the end."""
    told = f"content-range: bytes {begin}-{len(data) - 1}/{len(data)}"
    return http(206, data[begin:], told, *lines)


async def fetch_twice(begin: Begin, *answers: object) -> tuple[Part, list[Request]]:
    """A download that is cut off and, as another process would, gone on with."""
    async with serving(*answers) as server, calling(server.url) as upstream:
        part = await begin()
        assert (await upstream.download("video_1", part)).verdict is Verdict.BROKEN
        await part.flush()
        part = await begin()
        outcome = await upstream.download("video_1", part)
    assert outcome.verdict is Verdict.FETCHED, outcome
    return part, server.seen


class TestWhole:
    @pytest.mark.parametrize(
        ("answer", "known"),
        [
            pytest.param(http(200, VIDEO, ETAG), True, id="with its length"),
            pytest.param(then_close(bare(200, VIDEO)), False, id="until the connection closes"),
            pytest.param(
                bare(
                    200,
                    b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
                    % (HALF, VIDEO[:HALF], len(VIDEO) - HALF, VIDEO[HALF:]),
                    "transfer-encoding: chunked",
                ),
                False,
                id="chunked",
            ),
            pytest.param(rest(VIDEO, 0), True, id="as a range that nobody asked for"),
        ],
    )
    async def test_it_comes_whole(self, begin: Begin, answer, known: bool) -> None:
        async with serving(answer) as server, calling(server.url) as upstream:
            part = await begin()
            outcome = await upstream.download("video_1", part)
        assert outcome.verdict is Verdict.FETCHED
        assert outcome.size == (len(VIDEO) if known else None)
        assert await content_of(part) == VIDEO
        (request,) = server.seen
        assert (request.method, request.path) == ("GET", "/v1/videos/video_1/content")
        assert request.header("range") is None
        assert request.header("accept-encoding") == "identity"
        assert request.header("authorization") == KEY


class TestResumed:
    async def test_from_where_it_left_off(self, begin: Begin) -> None:
        part, seen = await fetch_twice(begin, cut(VIDEO, HALF, ETAG), rest(VIDEO, HALF, ETAG))
        assert await content_of(part) == VIDEO
        assert seen[1].header("range") == f"bytes={HALF}-"
        assert seen[1].header("if-range") == '"one"'

    async def test_by_its_date_where_there_is_no_strong_etag(self, begin: Begin) -> None:
        date = "last-modified: Mon, 01 Sep 2025 10:00:00 GMT"
        first = cut(VIDEO, HALF, 'etag: W/"weak"', date)
        part, seen = await fetch_twice(begin, first, rest(VIDEO, HALF, date))
        assert await content_of(part) == VIDEO
        assert seen[1].header("if-range") == "Mon, 01 Sep 2025 10:00:00 GMT"

    async def test_anew_where_there_is_no_validator(self, begin: Begin) -> None:
        part, seen = await fetch_twice(begin, cut(VIDEO, HALF), http(200, VIDEO))
        assert await content_of(part) == VIDEO
        assert seen[1].header("range") is None

    async def test_anew_where_there_are_no_ranges(self, begin: Begin) -> None:
        part, seen = await fetch_twice(begin, cut(VIDEO, HALF, ETAG), http(200, VIDEO, ETAG))
        assert await content_of(part) == VIDEO
        assert seen[1].header("range") is not None

    async def test_anew_when_the_content_has_changed(self, begin: Begin) -> None:
        changed = http(200, OTHER, 'etag: "two"')
        part, _ = await fetch_twice(begin, cut(VIDEO, HALF, ETAG), changed)
        assert await content_of(part) == OTHER
        assert part.validator == '"two"'

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(rest(OTHER, HALF, 'etag: "two"'), id="of another content"),
            pytest.param(rest(VIDEO, HALF - 1, ETAG), id="from another byte"),
            pytest.param(http(206, VIDEO[HALF:], ETAG), id="without saying which"),
            pytest.param(
                http(206, VIDEO[HALF:], f"content-range: bytes {HALF}-{len(VIDEO) - 1}/*"),
                id="of nobody knows how much",
            ),
            pytest.param(
                http(206, VIDEO[HALF:], f"content-range: parts {HALF}-{len(VIDEO) - 1}/9"),
                id="of no bytes",
            ),
            pytest.param(http(416, b"", f"content-range: bytes */{HALF}"), id="416"),
        ],
    )
    async def test_a_range_that_does_not_fit_starts_it_again(self, begin: Begin, answer) -> None:
        answers = [cut(VIDEO, HALF, ETAG), answer, http(200, VIDEO, ETAG)]
        async with serving(*answers) as server, calling(server.url) as upstream:
            part = await begin()
            await upstream.download("video_1", part)
            assert part.offset == HALF
            assert (await upstream.download("video_1", part)).verdict is Verdict.BROKEN
            assert (part.offset, part.validator) == (0, None)
            assert (await upstream.download("video_1", part)).verdict is Verdict.FETCHED
        assert server.seen[2].header("range") is None
        assert await content_of(part) == VIDEO

    async def test_a_shorter_range_than_asked_for_goes_on_from_its_end(self, begin: Begin) -> None:
        end = HALF + 1000
        told = f"content-range: bytes {HALF}-{end - 1}/{len(VIDEO)}"
        shorter = http(206, VIDEO[HALF:end], told, ETAG)
        answers = [cut(VIDEO, HALF, ETAG), shorter, rest(VIDEO, end, ETAG)]
        async with serving(*answers) as server, calling(server.url) as upstream:
            part = await begin()
            await upstream.download("video_1", part)
            outcome = await upstream.download("video_1", part)
            assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, True)
            assert (await upstream.download("video_1", part)).verdict is Verdict.FETCHED
        assert await content_of(part) == VIDEO

    async def test_more_than_was_announced_starts_it_again(self, begin: Begin) -> None:
        told = f"content-range: bytes {HALF}-{len(VIDEO) - 1}/{len(VIDEO)}"
        longer = http(206, VIDEO[HALF:] + b"more", told, ETAG)
        answers = [cut(VIDEO, HALF, ETAG), longer]
        async with serving(*answers) as server, calling(server.url) as upstream:
            part = await begin()
            await upstream.download("video_1", part)
            assert (await upstream.download("video_1", part)).verdict is Verdict.BROKEN
        assert part.offset == 0

    async def test_every_byte_that_came_counts(self, begin: Begin) -> None:
        """However little a connection brings before it breaks, the next one goes on after it."""
        step = 40_000
        answers = [cut(VIDEO, step, ETAG)]
        answers += [
            then_close(rest(VIDEO, at, ETAG)[: -(len(VIDEO) - at - step)])
            for at in range(step, 5 * step, step)
        ]
        async with serving(*answers) as server, calling(server.url) as upstream:
            part = await begin()
            for count in range(1, 6):
                outcome = await upstream.download("video_1", part)
                assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, True)
                assert part.offset == count * step
        assert await content_of(part) == VIDEO[: 5 * step]


class TestBroken:
    """Never stored, fetched again."""

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(http(200, b"<!doctype html><title>later</title>"), id="html"),
            pytest.param(http(200, b"{}" * 20, "content-type: video/mp4"), id="no ftyp"),
            pytest.param(http(200, VIDEO, "content-encoding: gzip"), id="compressed"),
            pytest.param(then_close(b"garbage\r\n\r\n"), id="garbage"),
            pytest.param(reset, id="reset"),
        ],
    )
    async def test_what_is_no_video(self, begin: Begin, answer) -> None:
        async with serving(answer) as server, calling(server.url) as upstream:
            part = await begin()
            outcome = await upstream.download("video_1", part)
        assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, False)
        assert await content_of(part) == b""

    async def test_less_than_was_announced(self, begin: Begin) -> None:
        async with serving(cut(VIDEO, HALF)) as server, calling(server.url) as upstream:
            part = await begin()
            outcome = await upstream.download("video_1", part)
        assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, True)

    async def test_more_than_a_video_may_have(self, begin: Begin) -> None:
        async with serving(http(200, VIDEO)) as server, calling(server.url) as upstream:
            part = await begin(len(VIDEO) - 1)
            outcome = await upstream.download("video_1", part)
        assert outcome.verdict is Verdict.BROKEN
        assert "content.video_bytes" in outcome.message
        assert part.offset == 0

    async def test_more_than_that_is_not_even_begun(self, begin: Begin) -> None:
        part = await begin(len(VIDEO) - 1)
        announced = http(200, VIDEO)[: -len(VIDEO)]
        async with (
            serving(then_hang(announced)) as server,
            calling(server.url, stall=0.3) as upstream,
        ):
            outcome = await upstream.download("video_1", part)
        assert "content.video_bytes" in outcome.message

    async def test_just_as_much_as_a_video_may_have(self, begin: Begin) -> None:
        async with serving(http(200, VIDEO)) as server, calling(server.url) as upstream:
            outcome = await upstream.download("video_1", await begin(len(VIDEO)))
        assert outcome.verdict is Verdict.FETCHED

    async def test_a_body_without_end_is_cut_at_the_cap(self, begin: Begin) -> None:
        async def endless(_request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(bare(200, VIDEO))
            while True:
                writer.write(bytes(65536))
                await writer.drain()

        async with serving(endless) as server, calling(server.url) as upstream:
            part = await begin(2_000_000)
            assert (await upstream.download("video_1", part)).verdict is Verdict.BROKEN
        assert part.offset == 0


class TestSlow:
    """No total deadline, only a least rate."""

    async def test_a_stall_is_cut_and_keeps_what_came(self, begin: Begin) -> None:
        begun = http(200, VIDEO, ETAG)[: -(len(VIDEO) - HALF)]
        async with serving(then_hang(begun)) as server, calling(server.url, stall=0.3) as upstream:
            part = await begin()
            outcome = await upstream.download("video_1", part)
        assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, True)
        assert await content_of(part) == VIDEO[:HALF]

    async def test_no_answer_at_all_is_cut(self, begin: Begin) -> None:
        async with serving(then_hang()) as server, calling(server.url, stall=0.3) as upstream:
            outcome = await upstream.download("video_1", await begin())
        assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, False)

    async def test_a_trickle_is_cut_and_keeps_what_came(self, begin: Begin) -> None:
        async def trickle(_request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(http(200, VIDEO, ETAG)[: -len(VIDEO)])
            for at in range(0, len(VIDEO), 100):
                writer.write(VIDEO[at : at + 100])
                await asyncio.sleep(0.02)

        async with serving(trickle) as server, calling(server.url, stall=0.4) as upstream:
            part = await begin()
            async with asyncio.timeout(5):
                outcome = await upstream.download("video_1", part)
        assert (outcome.verdict, outcome.advanced) == (Verdict.BROKEN, True)
        assert 0 < part.offset < len(VIDEO)
        assert await content_of(part) == VIDEO[: part.offset]

    async def test_a_steady_rate_may_take_longer_than_a_stall(self, begin: Begin) -> None:
        async def steady(_request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(http(200, VIDEO)[: -len(VIDEO)])
            for at in range(0, len(VIDEO), 70_000):
                writer.write(VIDEO[at : at + 70_000])
                await asyncio.sleep(0.1)

        loop = asyncio.get_running_loop()
        async with serving(steady) as server, calling(server.url, stall=0.4) as upstream:
            since = loop.time()
            outcome = await upstream.download("video_1", await begin())
        assert outcome.verdict is Verdict.FETCHED
        assert loop.time() - since > 0.4


class TestRefused:
    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            (401, Verdict.DENIED),
            (404, Verdict.ABSENT),
            (410, Verdict.ABSENT),
            (429, Verdict.RATE_LIMITED),
            (500, Verdict.UNAVAILABLE),
            (502, Verdict.UNAVAILABLE),
        ],
    )
    async def test_what_came_before_is_kept(
        self, begin: Begin, status: int, verdict: Verdict
    ) -> None:
        answers = [cut(VIDEO, HALF, ETAG), http(status, b"no")]
        async with serving(*answers) as server, calling(server.url) as upstream:
            part = await begin()
            await upstream.download("video_1", part)
            outcome = await upstream.download("video_1", part)
        assert (outcome.verdict, outcome.advanced) == (verdict, False)
        assert part.offset == HALF

    async def test_a_port_that_refuses_took_no_place(self, begin: Begin) -> None:
        async with calling(f"http://127.0.0.1:{free_port()}") as upstream:
            outcome = await upstream.download("video_1", await begin())
        assert outcome.verdict is Verdict.UNSENT

    async def test_the_key_is_taken_out_of_what_upstream_says(self, begin: Begin) -> None:
        refusal = http(403, {"error": {"message": f"{KEY} is not yours"}})
        async with serving(refusal) as server, calling(server.url) as upstream:
            outcome = await upstream.download("video_1", await begin())
        assert outcome.message == "[key] is not yours"


class TestRedirect:
    """Only https, only to hosts of the settings, and never with the key."""

    async def test_to_an_allowed_host_it_goes_without_the_key(self, begin: Begin, tls) -> None:
        async with serving(http(200, VIDEO), tls=tls.server) as store:
            target = f"https://user:password@localhost:{store.port}/files/1?signature=s"
            async with (
                serving(http(302, b"", f"location: {target}")) as server,
                calling(server.url, content_hosts=["localhost"], ca_file=tls.ca_file) as upstream,
            ):
                part = await begin()
                outcome = await upstream.download("video_1", part)
        assert outcome.verdict is Verdict.FETCHED
        assert await content_of(part) == VIDEO
        (request,) = store.seen
        assert request.path == "/files/1?signature=s"
        assert request.header("authorization") is None
        assert KEY not in repr(request)
        assert server.seen[0].header("authorization") == KEY

    async def test_it_is_resumed_there(self, begin: Begin, tls) -> None:
        async with serving(
            cut(VIDEO, HALF, ETAG), rest(VIDEO, HALF, ETAG), tls=tls.server
        ) as store:
            moved = http(302, b"", f"location: https://localhost:{store.port}/files/1")
            async with (
                serving(moved) as server,
                calling(server.url, content_hosts=["localhost"], ca_file=tls.ca_file) as upstream,
            ):
                part = await begin()
                await upstream.download("video_1", part)
                assert (await upstream.download("video_1", part)).verdict is Verdict.FETCHED
        assert store.seen[1].header("range") == f"bytes={HALF}-"
        assert await content_of(part) == VIDEO

    @pytest.mark.parametrize(
        "location",
        [
            "https://elsewhere.invalid/file",
            "https://localhost.elsewhere.invalid/file",
            "http://localhost:{port}/file",
            "//127.0.0.1:{port}/file",
            "/v1/videos/video_2/content",
            "file:///etc/passwd",
            "https://",
            "http://[nonsense",
        ],
    )
    async def test_anywhere_else_it_does_not_go(self, begin: Begin, location: str) -> None:
        async with serving(http(200, VIDEO)) as store:
            moved = http(302, b"", f"location: {location.format(port=store.port)}")
            async with (
                serving(moved) as server,
                calling(server.url, content_hosts=["localhost"]) as upstream,
            ):
                outcome = await upstream.download("video_1", await begin())
        assert outcome.verdict is Verdict.BROKEN  # it tells nothing of the account
        assert "content_hosts" in outcome.message
        assert "signature" not in outcome.message
        assert outcome.touched
        assert store.seen == []
        assert len(server.seen) == 1

    async def test_a_dead_end_took_its_place_all_the_same(self, begin: Begin) -> None:
        """Upstream was reached, and counted the call, before the other host was not."""
        moved = http(302, b"", f"location: https://127.0.0.1:{free_port()}/file")
        async with (
            serving(moved) as server,
            calling(server.url, content_hosts=["127.0.0.1"]) as upstream,
        ):
            outcome = await upstream.download("video_1", await begin())
        assert outcome.verdict is Verdict.BROKEN
        assert outcome.touched

    async def test_a_ring_ends(self, begin: Begin, tls) -> None:
        async with serving(b"", tls=tls.server) as store:
            there = f"https://localhost:{store.port}/again"
            store.answers = [http(302, b"", f"location: {there}")]
            async with (
                serving(http(302, b"", f"location: {there}")) as server,
                calling(server.url, content_hosts=["localhost"], ca_file=tls.ca_file) as upstream,
            ):
                outcome = await upstream.download("video_1", await begin())
        assert outcome.verdict is Verdict.BROKEN
        assert len(store.seen) <= 3


@pytest.mark.parametrize(
    ("base", "location", "with_key"),
    [
        ("https://api.test/v1x", "https://api.test/file", True),
        ("https://api.test", "https://api.test:8443/file", False),
        ("http://api.test", "https://api.test/file", False),
        ("https://api.test", "https://cdn.test/file", False),
        ("https://api.test", "https://api.test.cdn.test/file", False),
    ],
)
async def test_the_key_is_for_one_exact_origin(
    begin: Begin, base: str, location: str, with_key: bool
) -> None:
    sent: list[httpx.Request] = []

    async def content() -> AsyncIterator[bytes]:
        yield VIDEO

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if len(sent) == 1:
            return httpx.Response(302, headers={"location": location})
        return httpx.Response(200, content=content())

    hosts = ["api.test", "cdn.test", "api.test.cdn.test"]
    transport = httpx.MockTransport(answer)
    async with calling(base, content_hosts=hosts, transport=transport) as upstream:
        outcome = await upstream.download("video_1", await begin())
    assert outcome.verdict is Verdict.FETCHED
    assert [request.headers.get("authorization") for request in sent] == [
        KEY,
        KEY if with_key else None,
    ]
