"""OpenAI's own SDK, with nothing but `base_url` and `api_key` set."""

import hashlib
import io
from pathlib import Path

import av
import pytest
from openai import AuthenticationError, NotFoundError, OpenAI
from PIL import Image

from .conftest import Join, Launch

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]


def a_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1280, 720), "teal").save(file, "PNG")
    return file.getvalue()


async def test_create_and_poll_waits_for_the_finished_video(launch: Launch, join: Join) -> None:
    stack = await launch(generation=20.0)
    client = join(stack, "ada").client
    video = await client.videos.create_and_poll(
        prompt="A lighthouse in a storm", poll_interval_ms=100
    )
    assert video.status == "completed"
    assert video.progress == 100
    assert (video.model, video.size, video.seconds) == ("sora-2", "1280x720", "10")
    content = await (await client.videos.download_content(video.id)).aread()
    (theirs,) = stack.record()["videos"].values()
    assert hashlib.sha256(content).hexdigest() == theirs["sha256"]
    with av.open(io.BytesIO(content)) as movie:
        assert movie.streams.video[0].width == 1280
        assert sum(1 for _ in movie.decode(video=0)) == 10  # the sandbox draws one frame a second


async def test_create_with_a_file_sends_it_upstream_and_frees_it(
    launch: Launch, join: Join, tmp_path: Path
) -> None:
    stack = await launch(generation=20.0)
    client = join(stack, "ada").client
    picture = tmp_path / "begin.png"
    picture.write_bytes(a_picture())
    video = await client.videos.create(
        prompt="It begins with this", input_reference=picture, seconds="15", size="720x1280"
    )
    assert video.status == "queued"  # OpenAI's word: its poll would stop at `submitted`
    done = await client.videos.poll(video.id, poll_interval_ms=100)
    assert (done.status, done.size, done.seconds) == ("completed", "720x1280", "15")
    with_image = await (await client.videos.download_content(video.id)).aread()
    with av.open(io.BytesIO(with_image)) as movie:
        corner = next(movie.decode(video=0)).to_image().getpixel((700, 20))
    assert all(abs(a - b) < 40 for a, b in zip(corner, (0, 128, 128), strict=True)), corner
    assert not list((stack.data / "inputs").iterdir())


async def test_a_synchronous_client_reads_our_errors(launch: Launch) -> None:
    stack = await launch()
    key = stack.create_key("ada")
    with OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
        with pytest.raises(NotFoundError) as missing:
            client.videos.retrieve("video_of_somebody_else")
        assert missing.value.code == "video_not_found"
        assert missing.value.request_id
        video = client.videos.create(prompt="Not finished")
        with pytest.raises(NotFoundError) as early:
            client.videos.download_content(video.id)
        assert early.value.code == "content_not_ready"
    with (
        OpenAI(base_url=f"{stack.url}/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(AuthenticationError) as wrong,
    ):
        stranger.videos.create(prompt="Let me in")
    assert wrong.value.code == "invalid_api_key"
