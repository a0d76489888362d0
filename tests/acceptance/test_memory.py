"""The image data of many uploads at once stays out of the server's memory."""

import asyncio
import base64
import io
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from .conftest import Launch

pytestmark = pytest.mark.anyio

MOST = 300_000_000


def a_large_picture(kind: str, **options: Any) -> bytes:
    """Noise: about 9 MB that no format can make small."""
    file = io.BytesIO()
    side = 1740 if kind == "PNG" else 4000
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
