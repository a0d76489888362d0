"""Downloads: ranges, expiry, and the failures that a prompt can order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import studio
from gateway.sandbox.content import asked_range
from gateway.sandbox.errors import Refusal
from gateway.sandbox.faults import FAILURES
from gateway.sandbox.record import (
    submits_by_prompt,
)

from .bench import Bench, Open, error_of

pytestmark = pytest.mark.anyio


async def test_ranges(bench: Bench) -> None:
    video = await bench.completed()
    whole = await bench.download(video)
    body, tag = whole.content, whole.headers["etag"]
    assert tag.startswith('"')
    rest = await bench.download(video, Range="bytes=1000-")
    assert (rest.status_code, rest.content) == (206, body[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(body) - 1}/{len(body)}"
    assert rest.headers["etag"] == tag
    same = await bench.download(video, Range="bytes=0-9", If_Range=tag)
    assert (same.status_code, same.content) == (206, body[:10])
    other = await bench.download(video, Range="bytes=0-9", If_Range='"other"')
    assert (other.status_code, other.content) == (200, body)
    several = await bench.download(video, Range="bytes=0-1,4-5")
    assert (several.status_code, several.content) == (200, body)
    beyond = await bench.download(video, Range=f"bytes={len(body)}-")
    error_of(beyond, 416)
    assert beyond.headers["content-range"] == f"bytes */{len(body)}"


@given(
    st.integers(0, 30),
    st.one_of(st.none(), st.integers(0, 40)),
    st.one_of(st.none(), st.integers(0, 40)),
)
def test_a_range_picks_the_bytes_it_names(length: int, first: int | None, last: int | None) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    everything = range(length)
    if first is None:
        wanted = None if last is None else everything[max(0, length - last) :]
    elif last is not None and last < first:
        wanted = None
    else:
        wanted = range(length)[first : length if last is None else last + 1]
    if wanted is None or wanted:
        assert asked_range(header, length) == wanted
    else:
        with pytest.raises(Refusal) as refused:
            asked_range(header, length)
        assert refused.value.status == 416


@pytest.mark.parametrize("header", [None, "", "bytes", "bytes=-", "items=0-1", "bytes=a-b"])
def test_what_is_no_range_is_ignored(header: str | None) -> None:
    assert asked_range(header, 10) is None


async def test_content_expires_and_the_object_stays(open_bench: Open) -> None:
    bench = open_bench(ttl=3600.0, spread=0.0)
    video = await bench.created()
    bench.clock.turn(5.0 + 240.0 + 3599.9)
    assert (await bench.download(video)).status_code == 200
    bench.clock.turn(0.1)
    error_of(await bench.download(video), 404)
    assert (await bench.poll(video))["status"] == "completed"


async def test_an_evicted_movie_is_made_again_alike(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "_KEPT", 1)
    videos = [await bench.completed(f"cat {number}") for number in range(2)]
    bodies = [(await bench.download(video)).content for video in (*videos, *videos)]
    assert bodies[:2] == bodies[2:]
    assert bodies[0] != bodies[1]
    assert len(bench.state.studio._movies) == 1


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_task_fails_as_ordered(bench: Bench, fault: str) -> None:
    told = await bench.poll(await bench.completed(f"a cat sandbox:{fault}"))
    assert told["status"] == "failed"
    assert told["error"]["code"] == FAILURES[fault].code  # type: ignore[index]


async def test_refuse(bench: Bench) -> None:
    assert error_of(await bench.submit("sandbox:refuse"), 400)["code"] == "moderation_blocked"
    assert bench.state.tasks == {}


async def test_500_twice_for_each_prompt(bench: Bench) -> None:
    answers = [
        (await bench.submit(prompt)).status_code
        for prompt in ["sandbox:500", "sandbox:500", "sandbox:500 too", "sandbox:500"]
    ]
    assert answers == [500, 500, 500, 200]
    assert submits_by_prompt(bench.state.record) == {"sandbox:500": 1}


async def test_late(bench: Bench) -> None:
    video = await bench.created("sandbox:late")
    await bench.download(video)  # before completion; not one of the two
    bench.clock.turn(1000.0)
    answers = [(await bench.download(video)).status_code for _ in range(3)]
    assert answers == [404, 404, 200]


async def test_html(bench: Bench) -> None:
    video = await bench.completed("sandbox:html")
    first, second = await bench.download(video), await bench.download(video)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["content-type"].startswith("text/html")
    assert second.headers["content-type"] == "video/mp4"
