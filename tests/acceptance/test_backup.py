"""A backup taken while the gateway works, served elsewhere: it has all that was promised before."""

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from .callers import Caller, metric
from .conftest import Join, Launch
from .stack import Stack, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]

CALLS = "video_gateway_upstream_calls_total"
COMPLETED = "SELECT id FROM jobs WHERE state = 'completed'"


def completed(stack: Stack) -> list[str]:
    return [row[0] for row in stack.ledger(COMPLETED)]


async def keep_asking(one: Caller, acknowledged: list[str]) -> None:
    """Ask for one video after the other, until cancelled."""
    while True:
        acknowledged.append(await one.submit(f"video {len(acknowledged)}"))
        await asyncio.sleep(0.02)


def backup(stack: Stack, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "backup", str(target)]
    command += ["--config", str(stack.config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_it_has_every_job_and_video_from_before_it_began(
    launch: Launch, join: Join, tmp_path: Path
) -> None:
    stack = await launch(generation=20.0)
    one = join(stack, "ada")
    acknowledged: list[str] = []
    asking = asyncio.create_task(keep_asking(one, acknowledged))
    await until(lambda: len(completed(stack)) >= 3, seconds=60)

    (tmp_path / "restored").mkdir()
    restored = Stack(tmp_path / "restored")  # nobody is at its upstream's address
    jobs_before, videos_before = list(acknowledged), completed(stack)
    done = await asyncio.to_thread(backup, stack, restored.data)
    assert (done.returncode, done.stdout.strip()) == (0, str(restored.data)), done.stderr
    assert len(acknowledged) > len(jobs_before)  # it worked on meanwhile
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await one.client.videos.delete(videos_before[0])  # what happens later does not reach the copy
    stack.stop_gateway()
    record = stack.record()

    restored.write_config()
    await restored.start_gateway()
    theirs = {video["prompt"]: video["sha256"] for video in record["videos"].values()}
    headers = {"authorization": f"Bearer {one.client.api_key}"}
    try:
        with httpx.Client(base_url=f"{restored.url}/v1/videos", headers=headers) as client:
            videos = {video_id: client.get(f"/{video_id}") for video_id in jobs_before}
            assert {answer.status_code for answer in videos.values()} == {200}
            for video_id in videos_before:
                assert videos[video_id].json()["status"] == "completed"
                content = client.get(f"/{video_id}/content").raise_for_status().content
                prompt = videos[video_id].json()["prompt"]
                assert hashlib.sha256(content).hexdigest() == theirs[prompt]
            # Without an upstream the queue stands, and its callers may thin it out.
            waiting = [i for i in jobs_before if videos[i].json()["queue_position"] is not None]
            assert waiting
            assert client.delete(f"/{waiting[0]}").json()["deleted"] is True
            await until(lambda: metric(restored, CALLS) >= 1)  # and reached nobody
            standing = [client.get(f"/{video_id}").json() for video_id in waiting[1:]]
            assert {video["error"] is None for video in standing} <= {True}
        assert (
            stack.record()["figures"]["submits_by_prompt"]
            == (record["figures"]["submits_by_prompt"])
        )
    finally:
        restored.stop()


async def test_it_never_writes_into_a_folder_that_is_there(launch: Launch, tmp_path: Path) -> None:
    stack = await launch()
    (tmp_path / "old").mkdir()
    refused = await asyncio.to_thread(backup, stack, tmp_path / "old")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"video-gateway: {tmp_path / 'old'}: File exists"]
