"""The provider's own curl lines, with only the host and the key changed: the key goes bare."""

import asyncio
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acceptance.stack import Stack, until
from PIL import Image

from .conftest import missing
from .oracles import sha256_of, stored_sha256, upstream_sha256

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SUBMIT = """
curl -sS -X POST "$HOST/v1/videos" \\
  -H "Authorization: $KEY" \\
  -F "prompt=$PROMPT" \\
  -F "model=sora-2" \\
  -F "size=1280x720" \\
  -F "seconds=10"
"""
SUBMIT_TYPED = SUBMIT.replace("-F", '-H "Content-Type: multipart/form-data" -F', 1)
SUBMIT_IMAGE = SUBMIT.rstrip() + ' -F "input_reference=@$IMAGE"'
POLL = 'curl -sS -X GET "$HOST/v1/videos/$ID" -H "Authorization: $KEY"'
DOWNLOAD = 'curl -sS -X GET "$HOST/v1/videos/$ID/content" -H "Authorization: $KEY" -o out.mp4'
RESUME = 'curl -sS -C - "$HOST/v1/videos/$ID/content" -H "Authorization: $KEY" -o out.mp4'


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.create_key("curl")


@pytest.fixture
def run(stack: Stack, key: str, tmp_path: Path) -> Run:
    """Runs a line in an empty folder; what it is told comes as variables."""
    if shutil.which("curl") is None:
        missing("curl is not installed")

    def ran(line: str, **told: object) -> "subprocess.CompletedProcess[str]":
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HOST": stack.url, "KEY": key}
        environ |= {name: str(value) for name, value in told.items()}
        command = ["sh", "-euc", line]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    return ran


def answer(run: Run, line: str, **told: object) -> dict[str, Any]:
    """The JSON that a line prints."""
    ended = run(line, **told)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def polled(run: Run, video: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """All words for a status until the video is there, and the video."""
    words = [video["status"]]

    def look() -> dict[str, Any] | None:
        seen = answer(run, POLL, ID=video["id"])
        if seen["status"] != words[-1]:
            words.append(seen["status"])
        return seen if seen["status"] in ("completed", "failed") else None

    return words, asyncio.run(until(look))


@pytest.mark.parametrize("submit", [SUBMIT, SUBMIT_TYPED], ids=["plain", "typed"])
def test_submit_poll_and_download(
    run: Run, stack: Stack, tmp_path: Path, submit: str, request: pytest.FixtureRequest
) -> None:
    prompt = f"curl {request.node.callspec.id}"
    video = answer(run, submit, PROMPT=prompt)
    assert (video["object"], video["status"], video["url"]) == ("video", "submitted", None)
    words, done = polled(run, video)
    assert set(words) <= {"submitted", "in_progress", "completed"}  # the provider's own words
    assert done["progress"] == 100
    assert done["url"] == f"{stack.url}/v1/videos/{video['id']}/content"
    assert run(DOWNLOAD, ID=video["id"]).returncode == 0
    assert sha256_of(tmp_path / "out.mp4") == upstream_sha256(stack, prompt)


def test_submit_with_a_picture_past_a_megabyte(run: Run, stack: Stack, tmp_path: Path) -> None:
    """curl asks with `Expect: 100-continue` before it sends so much."""
    picture = tmp_path / "noise.png"
    Image.frombytes("RGB", (1280, 720), random.Random(0).randbytes(1280 * 720 * 3)).save(picture)
    assert picture.stat().st_size > 1_000_000
    video = answer(run, SUBMIT_IMAGE, PROMPT="curl noise", IMAGE=picture)
    assert stored_sha256(stack, "curl noise") == sha256_of(picture)
    assert polled(run, video)[1]["status"] == "completed"


def test_a_download_that_broke_off_is_resumed(run: Run, stack: Stack, tmp_path: Path) -> None:
    video = answer(run, SUBMIT, PROMPT="curl resumed")
    polled(run, video)
    assert run(DOWNLOAD, ID=video["id"]).returncode == 0
    out = tmp_path / "out.mp4"
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 3])
    assert run(RESUME, ID=video["id"]).returncode == 0
    assert out.read_bytes() == whole
    assert run(RESUME, ID=video["id"]).returncode == 0  # and of one that is whole, nothing is left
    assert out.read_bytes() == whole
    assert sha256_of(out) == upstream_sha256(stack, "curl resumed")


def test_errors_are_json_with_a_reason(run: Run) -> None:
    error = answer(run, SUBMIT, PROMPT="x", KEY="sk-wrong")["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    error = answer(run, SUBMIT.replace("seconds=10", "seconds=4"), PROMPT="x")["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "seconds")
    assert answer(run, POLL, ID="video_abc123def456")["error"]["code"] == "video_not_found"
    video = answer(run, SUBMIT, PROMPT="curl early")
    early = run(DOWNLOAD.replace("-sS", "-sSf"), ID=video["id"])
    assert early.returncode == 22  # curl's word for a status of 400 and more
