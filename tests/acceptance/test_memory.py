"""What many callers send and don't read at once stays out of the server's memory."""

import asyncio
import base64
import io
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from stage import held_open, mp4
from upstream.bench import Request, http, serving

from .conftest import Launch
from .stack import Stack, until

pytestmark = pytest.mark.anyio

MOST = 300_000_000


def a_large_picture(kind: str, **options: Any) -> bytes:
    """Noise: about 9 MB that no format can make small."""
    file = io.BytesIO()
    side = 1820 if kind == "PNG" else 4000
    noise = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))
    noise.save(file, kind, **options)
    assert 8_500_000 < len(file.getvalue()) < 9_999_999, len(file.getvalue())
    return file.getvalue()


def peak(pid: int) -> int:
    """Bytes of memory that a process held at its fullest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.parametrize(
    ("way", "uploads"),
    [("file", 100), ("field", 100), ("json", 100), ("progressive", 20)],  # checked one by one
)
async def test_many_uploads_of_nine_megabytes_at_once(
    launch: Launch, way: str, uploads: int
) -> None:
    stack = await launch(mode="open")
    if way == "progressive":
        picture = a_large_picture("JPEG", quality=78, progressive=True)
    else:
        picture = a_large_picture("PNG")
    url = "data:image/png;base64," + base64.b64encode(picture).decode()

    def body(number: int) -> dict[str, Any]:
        prompt = f"video {number}"
        if way == "json":
            return {"json": {"prompt": prompt, "input_reference": {"image_url": url}}}
        if way == "field":
            return {"files": {"prompt": (None, prompt), "input_reference[image_url]": (None, url)}}
        return {"files": {"prompt": (None, prompt), "input_reference": ("a", picture)}}

    limits = httpx.Limits(max_connections=uploads)
    async with httpx.AsyncClient(base_url=stack.url, limits=limits, timeout=120) as client:
        sends = [client.post("/v1/videos", **body(number)) for number in range(uploads)]
        answers = await asyncio.gather(*sends)
    assert {answer.status_code for answer in answers} == {200}
    assert stack.gateway is not None
    assert peak(stack.gateway.pid) < MOST


CALLERS = 50
VIDEO = mp4(os.urandom(24_000_000))
"""More than all the buffers between a server and a caller hold."""


async def one_large_video(request: Request, writer: asyncio.StreamWriter) -> None:
    """An upstream whose first task is done at once, and no other ever."""
    if request.method == "POST":
        answer = http(200, {"id": f"task_{os.urandom(8).hex()}", "status": "submitted"})
    elif request.path.endswith("/content"):
        answer = http(200, VIDEO)
    else:
        answer = http(200, {"id": "task", "status": "completed", "progress": 100})
    writer.write(answer)
    await writer.drain()


def videos_open(stack: Stack) -> int:
    """Downloads under way: each holds its file."""
    assert stack.gateway is not None
    return held_open(".mp4", stack.gateway.pid)


async def stalled(stack: Stack, video: str) -> socket.socket:
    """A caller that asks for a video and reads none of it."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", stack.port))
    lines = [f"GET /v1/videos/{video}/content HTTP/1.1", f"host: 127.0.0.1:{stack.port}", "", ""]
    await loop.sock_sendall(line, "\r\n".join(lines).encode())
    return line


async def test_fifty_upload_while_fifty_read_nothing(tmp_path: Path) -> None:
    picture = a_large_picture("PNG")
    async with serving(one_large_video) as server:
        stack = Stack(tmp_path, mode="open", sandbox_port=server.port)
        stack.write_config()
        with stack.config.open("a") as config:
            config.write("[limits]\nstall = 600.0\n")
        lines: list[socket.socket] = []
        try:
            await stack.start_gateway()
            async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:
                video = (await client.post("/v1/videos", json={"prompt": "a"})).json()["id"]
                async with asyncio.timeout(30):
                    while (await client.get(f"/v1/videos/{video}")).json()["progress"] < 100:
                        await asyncio.sleep(0.05)
                lines = [await stalled(stack, video) for _ in range(CALLERS)]
                await until(lambda: videos_open(stack) == CALLERS)
                files = {"prompt": (None, "a cat"), "input_reference": ("a", picture)}
                sends = [client.post("/v1/videos", files=files) for _ in range(CALLERS)]
                answers = await asyncio.gather(*sends)
            assert {answer.status_code for answer in answers} == {200}
            assert videos_open(stack) == CALLERS
            assert stack.gateway is not None
            held = peak(stack.gateway.pid)
            print(f"the server held {held / 1e6:.0f} MB at its fullest")
            assert held < MOST
        finally:
            for line in lines:
                line.close()
            stack.stop()
