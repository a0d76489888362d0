"""kill -9 in the middle of forty jobs, and start again: nothing lost, nothing sent twice."""

import asyncio
import hashlib
from collections.abc import Callable

import httpx
import pytest

from .conftest import Join, Launch
from .stack import Stack, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]


def reached(stack: Stack, completed: int) -> Callable[[], bool]:
    """Whether so many jobs are completed, by the ledger's file."""
    sql = "SELECT count(*) FROM jobs WHERE state = 'completed'"
    return lambda: stack.ledger(sql)[0][0] >= completed


async def test_nothing_is_lost_and_nothing_is_sent_twice(launch: Launch, join: Join) -> None:
    stack = await launch(speed=80.0)
    callers = [join(stack, f"caller-{number}") for number in range(4)]
    wishes = [(one, f"{one.name} video {n}") for one in callers for n in range(10)]
    ids = await asyncio.gather(*(one.submit(prompt) for one, prompt in wishes))

    caught: set[str] = set()  # jobs whose POST was under way at a kill: nobody can tell of them
    for completed in (2, 9, 17, 25):
        await until(reached(stack, completed), seconds=60)
        stack.kill_gateway()
        caught |= {row[0] for row in stack.ledger("SELECT id FROM jobs WHERE state = 'submitting'")}
        await stack.start_gateway()
    await until(lambda: not stack.ledger(UNFINISHED)[0][0], seconds=120)

    record = stack.record()
    theirs = {video["prompt"]: video["sha256"] for video in record["videos"].values()}
    for (one, prompt), video_id in zip(wishes, ids, strict=True):
        video = await one.client.videos.retrieve(video_id)
        if video_id in caught:
            assert video.error is not None
            assert video.error.code == "submission_outcome_unknown"
        else:
            content = await one.client.videos.download_content(video_id)
            assert hashlib.sha256(await content.aread()).hexdigest() == theirs[prompt]
    assert len(caught) <= 4  # one submit under way at each kill, at the most
    figures = record["figures"]
    assert set(figures["submits_by_prompt"].values()) == {1}
    assert figures["most_calls_in_window_with_refused"]["arrival"] <= 10
    assert figures["most_tasks_at_once"] <= 5
    assert figures["refused"] == 0


UNFINISHED = "SELECT count(*) FROM jobs WHERE state NOT IN ('completed', 'failed', 'cancelled')"


async def test_sigterm_keeps_the_queue_and_the_window(launch: Launch, join: Join) -> None:
    stack = await launch(generation=20.0)
    one = join(stack, "ada")
    ids = await asyncio.gather(*(one.submit(f"video {n}") for n in range(12)))
    await until(reached(stack, 2), seconds=60)

    stack.stop_gateway()
    assert not stack.ledger("SELECT id FROM calls WHERE ended IS NULL")  # none was cut off
    await stack.start_gateway()
    digests = await asyncio.gather(*(one.fetch(video_id) for video_id in ids))

    record = stack.record()
    assert sorted(digests) == sorted(video["sha256"] for video in record["videos"].values())
    assert record["figures"]["most_calls_in_window_with_refused"]["arrival"] <= 10
    assert record["figures"]["refused"] == 0


async def test_a_second_server_on_the_same_folder_is_refused(launch: Launch) -> None:
    stack = await launch()
    first = stack.gateway
    second = stack._spawn(
        "serve", "--config", stack.config, "--port", 0, log=stack.folder / "2.log"
    )
    assert await asyncio.to_thread(second.wait, 30) == 2
    (line,) = (stack.folder / "2.log").read_text().splitlines()
    assert "another server is running" in line
    assert first is not None
    assert first.poll() is None
    assert httpx.get(f"{stack.url}/healthz").is_success
