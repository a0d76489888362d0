"""The bytes of a finished video: whole, by ranges, or a clear word why not."""

import os
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stage import Caller, House, mp4

from gateway.api.files import read_range
from gateway.errors import RequestError
from gateway.job import State

from .bench import bring, complete, error_of, knows_an_account_that_left

VIDEO = mp4(os.urandom(700_000))
SIZE = len(VIDEO)


@pytest.fixture
async def video(house: House, caller: Caller) -> str:
    """A completed video."""
    video = await caller.create("a cat")
    await complete(house, video, VIDEO)
    return video


async def test_whole(house: House, caller: Caller, video: str) -> None:
    answer = await caller.content(video)
    assert answer.status_code == 200
    assert answer.content == VIDEO
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{house.job(video).content_sha256}"'
    assert "content-range" not in answer.headers


async def test_head_tells_the_same_without_the_bytes(caller: Caller, video: str) -> None:
    whole = await caller.content(video)
    answer = await caller.http.head(f"/v1/videos/{video}/content")
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "accept-ranges"):
        assert answer.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        (f"bytes=0-{SIZE - 1}", 0, SIZE),
        (f"bytes=5-{SIZE * 2}", 5, SIZE),
        ("bytes=300000-600000", 300_000, 600_001),
    ],
)
async def test_one_range(caller: Caller, video: str, asked: str, begin: int, end: int) -> None:
    answer = await caller.content(video, range=asked)
    assert answer.status_code == 206
    assert answer.content == VIDEO[begin:end]
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize(
    "asked",
    [
        f"bytes={SIZE}-",
        f"bytes={SIZE}-{SIZE + 5}",
        "bytes=-0",
        "bytes=5-4",
        "bytes=-",
        "bytes=",
        "bytes=0-1,5-6",
        "bytes=0-0,-1",
        "bytes=" + "0-," * 500,
        "bytes=a-b",
        "bytes=--5",
        "bytes=1.5-",
        "bytes=0x1-",
        "bytes= 0-5",
        "items=0-5",
        "nonsense",
        "bytes=" + "9" * 30 + "-",
    ],
)
async def test_any_other_range_is_416(caller: Caller, video: str, asked: str) -> None:
    answer = await caller.content(video, range=asked)
    assert error_of(answer, 416)["param"] == "range"
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@given(st.integers(1, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
@example(1, 0, 0)
@example(10, None, 0)
def test_ranges_against_a_reference(size: int, first: int | None, last: int | None) -> None:
    """Python's own slices say which bytes a range means."""
    told = "" if first is None else first, "" if last is None else last
    positions = range(size)
    if first is None:
        expected = positions[-last:] if last else None
    elif last is not None and last < first:
        expected = None
    else:
        expected = positions[first:] if last is None else positions[first : last + 1]
    asked = "bytes={}-{}".format(*told)
    if expected:
        assert range(*read_range(asked, size)) == expected
    else:
        with pytest.raises(RequestError) as refused:
            read_range(asked, size)
        assert refused.value.status == 416


@given(st.text(max_size=30) | st.text("bytes=-,0123456789 ", max_size=20), st.integers(1, 100))
def test_no_range_is_too_odd(asked: str, size: int) -> None:
    try:
        begin, end = read_range(asked, size)
    except RequestError:
        return
    assert 0 <= begin < end <= size


class TestIfRange:
    async def test_the_same_content_is_resumed(self, caller: Caller, video: str) -> None:
        etag = (await caller.content(video)).headers["etag"]
        answer = await caller.content(video, range="bytes=10-", if_range=etag)
        assert (answer.status_code, answer.content) == (206, VIDEO[10:])

    @pytest.mark.parametrize("other", ['"another"', 'W/"x"', "Mon, 01 Sep 2025 10:00:00 GMT", "x"])
    async def test_another_one_comes_whole(self, caller: Caller, video: str, other: str) -> None:
        answer = await caller.content(video, range="bytes=10-", if_range=other)
        assert (answer.status_code, answer.content) == (200, VIDEO)


class TestNotThere:
    @pytest.mark.parametrize("state", [State.QUEUED, State.SUBMITTING, State.FETCHING])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_not_yet(self, house: House, caller: Caller, state: State, method: str) -> None:
        video = await caller.create("a cat")
        if state is not State.QUEUED:
            await bring(house, video, state)
        answer = await caller.http.request(method, f"/v1/videos/{video}/content")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.status_code == 404
        if method == "GET":
            assert error_of(answer, 404)["code"] == "content_not_ready"

    async def test_never(self, house: House, caller: Caller) -> None:
        video = await caller.create("a cat")
        await bring(house, video, State.FAILED, error_code="c", error_message="too violent")
        answer = await caller.content(video)
        error = error_of(answer, 404)
        assert error["code"] == "content_not_available"
        assert "too violent" in error["message"]
        assert answer.headers["x-should-retry"] == "false"

    async def test_no_longer(self, house: House, caller: Caller, video: str) -> None:
        (file,) = (house.folder / "videos").glob("*/*.mp4")
        file.unlink()
        answer = await caller.content(video)
        assert error_of(answer, 410)["code"] == "content_gone"
        assert answer.headers["x-should-retry"] == "false"
        assert (await caller.video(video))["status"] == "completed"

    @pytest.mark.parametrize(("account", "code"), [("default", 404), ("left", 410)])
    async def test_lost_it_is_fetched_again_only_over_an_account_that_is_served(
        self, house: House, make_caller: Any, account: str, code: int
    ) -> None:
        await knows_an_account_that_left(house, "left")
        caller = make_caller(house)
        video = await caller.create("a cat")
        finished = {"finished": house.gateway.clock.now(), "account": account}
        await complete(house, video, VIDEO, **finished)
        (file,) = (house.folder / "videos").glob("*/*.mp4")
        file.unlink()
        error_of(await caller.content(video), code)
        assert house.job(video).content_lost == (code == 404)

    @pytest.mark.parametrize("variant", ["thumbnail", "spritesheet", ""])
    async def test_other_variants(self, caller: Caller, video: str, variant: str) -> None:
        answer = await caller.http.get(f"/v1/videos/{video}/content", params={"variant": variant})
        assert error_of(answer, 400)["param"] == "variant"

    async def test_the_video_by_its_name(self, caller: Caller, video: str) -> None:
        answer = await caller.http.get(f"/v1/videos/{video}/content?variant=video")
        assert answer.content == VIDEO
