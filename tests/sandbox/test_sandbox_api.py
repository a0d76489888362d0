"""The three steps to the letter, without a network."""

import io
from typing import Any

import pytest
from PIL import Image

from .bench import START, Bench, Open, error_of

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


async def test_a_video_from_submit_to_download(bench: Bench) -> None:
    answer = await bench.submit("a cat", size="720x1280", seconds="15")
    assert answer.status_code == 200
    video = answer.json()
    assert video == {
        "id": video["id"],
        "object": "video",
        "status": "submitted",
        "progress": 0,
        "prompt": "a cat",
        "model": "sora-2",
        "size": "720x1280",
        "seconds": "15",
        "created_at": int(START),
        "completed_at": None,
        "url": None,
        "error": None,
    }
    assert video["id"].startswith("video_")
    assert len(video["id"]) == 18
    bench.clock.turn(5.0)
    assert (await bench.poll(video["id"]))["status"] == "in_progress"
    error_of(await bench.download(video["id"]), 404)
    bench.clock.turn(1000.0)
    done = await bench.poll(video["id"])
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert done["url"] == f"http://upstream.test/v1/videos/{video['id']}/content"
    content = await bench.client.get(done["url"])
    assert content.status_code == 200
    assert content.headers["content-type"] == "video/mp4"
    assert content.headers["accept-ranges"] == "bytes"
    assert content.content[4:8] == b"ftyp"


async def test_the_openai_vocabulary_says_queued(open_bench: Open) -> None:
    answer = await open_bench(vocabulary="openai").submit()
    assert answer.json()["status"] == "queued"


async def test_generation_times_are_spread_and_seeded(open_bench: Open) -> None:
    async def times(**settings: Any) -> list[float]:
        bench = open_bench(concurrent=50, requests=50, **settings)
        for number in range(30):
            await bench.created(f"cat {number}")
        return [task.generation for task in bench.state.tasks.values()]

    one = await times(seed=1)
    assert one == await times(seed=1)
    assert one != await times(seed=2)
    assert len(set(one)) == 30
    assert 200 < sum(one) / 30 < 280
    assert min(await times(spread=5.0)) == pytest.approx(0.2 * 240)
    assert set(await times(spread=0.0)) == {240.0}


async def test_ids_are_new_in_another_run(open_bench: Open) -> None:
    one, again, later = open_bench(), open_bench(), open_bench()
    later.clock.turn(0.001)
    first = await one.created()
    assert await again.created() == first
    assert await later.created() != first
    assert await one.created() != first


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", "  "),
        ("prompt", "x" * 1000),
        ("model", "sora-1"),
        ("size", "1280x721"),
        ("size", ""),
        ("seconds", "12"),
        ("seconds", "10.0"),
        ("n", "1"),
        ("input_reference", "not a file"),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(bench: Bench, field: str, value: str) -> None:
    answer = await bench.submit(**{field: value})  # type: ignore[arg-type]
    assert error_of(answer, 400)["param"] == field
    assert bench.state.tasks == {}


@pytest.mark.parametrize("field", ["prompt", "model", "size", "seconds"])
async def test_a_missing_double_or_filed_field_is_named(bench: Bench, field: str) -> None:
    form = {"prompt": "a cat", "model": "sora-2", "size": "1280x720", "seconds": "10"}
    missing = [(name, (None, value)) for name, value in form.items() if name != field]
    double = [*missing, (field, (None, form[field])), (field, (None, form[field]))]
    filed = [*missing, (field, ("name.txt", form[field]))]
    for parts in (missing, double, filed):
        answer = await bench.client.post("/v1/videos", files=parts)
        assert error_of(answer, 400)["param"] == field


async def test_999_characters_are_not_too_many(bench: Bench) -> None:
    prompt = "\u6f22" * 999
    assert (await bench.submit(prompt)).json()["prompt"] == prompt


async def test_only_a_multipart_form_is_taken(bench: Bench) -> None:
    form = {"prompt": "a cat", "model": "sora-2", "size": "1280x720", "seconds": "10"}
    error_of(await bench.client.post("/v1/videos", json=form), 415)
    error_of(await bench.client.post("/v1/videos", data=form), 415)
    error_of(await bench.client.post("/v1/videos"), 415)
    broken = {"Content-Type": "multipart/form-data"}
    error_of(await bench.client.post("/v1/videos", content=b"?", headers=broken), 400)


@pytest.mark.parametrize("image", [PNG, JPEG, PNG + bytes(9_999_999 - len(PNG))])
async def test_a_png_or_jpeg_under_10_mb_is_taken(bench: Bench, image: bytes) -> None:
    await bench.created(image=image)


@pytest.mark.parametrize("image", [b"", b"GIF89a", PNG + bytes(10_000_000 - len(PNG))])
async def test_any_other_file_is_not(bench: Bench, image: bytes) -> None:
    assert error_of(await bench.submit(image=image), 400)["param"] == "input_reference"


async def test_the_image_is_drawn_and_then_let_go(open_bench: Open) -> None:
    bench = open_bench(ttl=5000.0)
    out = io.BytesIO()
    Image.effect_noise((1280, 720), 90).save(out, "PNG")
    image = out.getvalue()
    with_image = await bench.completed("a cat", image)
    without = await bench.completed("a cat")
    unreadable = await bench.completed("a cat", PNG)
    drawn = (await bench.download(with_image)).content
    assert drawn != (await bench.download(without)).content
    assert (await bench.download(unreadable)).content == (await bench.download(without)).content
    kept = bench.state.studio._pictures[with_image]
    assert kept is not None
    assert len(kept) < len(image)
    assert bench.state.studio._images == {}
    bench.clock.turn(5000.0)
    await bench.created()
    assert bench.state.studio._pictures == {}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/videos", 405),
        ("DELETE", "/v1/videos/video_1", 405),
        ("GET", "/v1/videos/video_1", 404),
        ("GET", "/v1/videos/video_1/content", 404),
        ("GET", "/v1/videos/video_1/", 404),
        ("POST", "/v1/videos/", 404),
    ],
)
async def test_anything_else_is_a_json_error(
    bench: Bench, method: str, path: str, status: int
) -> None:
    error_of(await bench.client.request(method, path), status)


async def test_the_record_is_exported_without_key_and_count(open_bench: Open) -> None:
    bench = open_bench(requests=2)
    video = await bench.completed("a cat")
    content = await bench.download(video)
    events = len(bench.state.record)
    answer = await bench.client.get("/_sandbox/record", headers={"Authorization": ""})
    told = answer.json()
    assert len(bench.state.record) == len(told["events"]) == events == 5
    digest = content.headers["etag"].strip('"')
    assert told["videos"] == {video: {"prompt": "a cat", "status": "completed", "sha256": digest}}
    assert told["figures"]["submits_by_prompt"] == {"a cat": 1}
    assert told["figures"]["most_calls_in_window"] == {"arrival": 1, "end": 1}
    assert (await bench.client.get("/_sandbox/record")).status_code == 200
