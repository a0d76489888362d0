"""The sandbox over real sockets: what only a connection can show."""

import ast
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import gateway.sandbox
from gateway.sandbox import Running, SandboxSettings, running
from gateway.sandbox.record import Arrived, Ended, submits_by_prompt

from .bench import KEY, HandClock

pytestmark = pytest.mark.anyio

FORM = {"model": "sora-2", "size": "1280x720", "seconds": "10"}


@asynccontextmanager
async def served(
    **settings: Any,
) -> AsyncIterator[tuple[Running, HandClock, httpx.AsyncClient]]:
    """A sandbox on a real port, whose clock the test turns."""
    clock = HandClock()
    told = SandboxSettings(**{"video_fps": 1, "requests": 1000, **settings})
    async with (
        running(told, clock=clock) as sandbox,
        httpx.AsyncClient(base_url=sandbox.url, headers=KEY, timeout=5.0) as client,
    ):
        yield sandbox, clock, client


async def submit(client: httpx.AsyncClient, prompt: str) -> httpx.Response:
    form = {"prompt": prompt, **FORM}
    return await client.post(
        "/v1/videos", files=[(name, (None, value)) for name, value in form.items()]
    )


async def completed(client: httpx.AsyncClient, clock: HandClock, prompt: str) -> str:
    answer = await submit(client, prompt)
    clock.turn(1000.0)
    return f"/v1/videos/{answer.json()['id']}/content"


async def until(condition: Any) -> None:
    with anyio.fail_after(5.0):
        while not condition():
            await anyio.sleep(0.001)


async def broken_off(client: httpx.AsyncClient, path: str) -> tuple[httpx.Response, bytes]:
    """An answer that must break off, and what came of its body."""
    body = b""
    async with client.stream("GET", path) as answer:
        try:
            async for chunk in answer.aiter_bytes():
                body += chunk
        except httpx.RemoteProtocolError:
            return answer, body
    raise AssertionError("the answer came whole")


async def test_a_download_that_is_cut_can_be_resumed() -> None:
    async with served() as (sandbox, clock, client):
        content = await completed(client, clock, "sandbox:cut")
        answer, body = await broken_off(client, content)
        assert answer.status_code == 200
        length = int(answer.headers["content-length"])
        assert len(body) == length // 2
        asked = {"Range": f"bytes={len(body)}-", "If-Range": answer.headers["etag"]}
        rest = await client.get(content, headers=asked)
        assert rest.status_code == 206
        whole = (await client.get(content)).content
        assert body + rest.content == whole
        assert len(whole) == length
        ends = [event.whole for event in sandbox.state.record if isinstance(event, Ended)]
        assert ends == [True, False, True, True]


async def test_an_answer_that_is_lost_leaves_a_task() -> None:
    async with served() as (sandbox, _, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await submit(client, "sandbox:lost")
        assert submits_by_prompt(sandbox.state.record) == {"sandbox:lost": 1}
        (task,) = sandbox.state.tasks.values()
        assert (await client.get(f"/v1/videos/{task.id}")).json()["status"] == "submitted"


async def test_the_url_it_tells_can_be_followed() -> None:
    async with served() as (sandbox, clock, client):
        content = await completed(client, clock, "a cat")
        told = (await client.get(content.removesuffix("/content"))).json()["url"]
        assert told == sandbox.url + content
        assert (await client.get(told)).content[4:8] == b"ftyp"


async def test_a_caller_that_hangs_up_ends_its_call() -> None:
    async with served(latency=(10.0, 10.0)) as (sandbox, clock, client):
        record = sandbox.state.record
        with anyio.move_on_after(5.0) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, "/v1/videos/video_1")
                await until(lambda: clock.sleepers)
                clock.turn(9.999)  # whatever the split: it has arrived, or arrives now
                if not len(record):
                    clock.turn(0.001)
                await until(lambda: any(isinstance(event, Arrived) for event in record))
                await until(lambda: clock.sleepers)
                ended = clock.at
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        await until(lambda: any(isinstance(event, Ended) for event in record))
        (end,) = (event for event in record if isinstance(event, Ended))
        assert end.at == ended


async def test_a_refused_caller_can_read_why_whatever_it_was_sending() -> None:
    async with served(requests=1) as (_, _, client):
        await client.get("/v1/videos/video_1")
        upload = {"input_reference": ("image.png", bytes(5_000_000))}
        assert (await client.post("/v1/videos", files=upload)).status_code == 429


async def test_many_calls_at_once_get_no_more_than_the_limits() -> None:
    async with served(requests=10, concurrent=5) as (sandbox, _, client):
        answers: list[int] = []

        async def call(number: int) -> None:
            answers.append((await submit(client, f"cat {number}")).status_code)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(call, number)
        assert answers.count(200) == len(sandbox.state.tasks) == 5
        assert answers.count(429) == 25


async def test_two_at_once_and_a_stop_with_a_call_under_way() -> None:
    async with served() as (one, _, _), served(latency=(9.0, 9.0)) as (other, clock, client):
        assert one.url != other.url
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, "/v1/videos/video_1")
            await until(lambda: clock.sleepers)
            group.cancel_scope.cancel()


def test_serve_in_another_process_says_nothing_on_standard_output() -> None:
    program = "from gateway.sandbox import *; serve(SandboxSettings(), '127.0.0.1', 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        address = next(
            found[0]
            for line in process.stderr
            if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        told = httpx.get(f"{address}/_sandbox/record").json()
        assert told["events"] == []
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


def test_importing_it_is_cheap() -> None:
    program = (
        "import sys, json, gateway.sandbox; print(json.dumps([*{'av', 'PIL'} & {*sys.modules}]))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(told.stdout) == []


def test_it_imports_nothing_of_the_gateway() -> None:
    names = []
    for path in Path(gateway.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                names.append(node.module or "")
            elif isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
    inside = [name for name in names if name.split(".")[0] == "gateway"]
    assert inside
    assert all(name.startswith("gateway.sandbox") for name in inside)
