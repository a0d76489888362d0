"""A real gateway killed at one named moment, with one caller who does what the test says: the
campaign's callers repeat whatever was lost, and so can't tell what was accepted of it.
"""

import signal
from typing import Any

import httpx
import pytest
from stage import picture, until

from .conftest import MakeServer
from .server import Server
from .upstream import Upstream

pytestmark = pytest.mark.anyio

KEY = {"idempotency-key": "the-same-request"}


def wish() -> dict[str, Any]:
    """One request, with an input image."""
    return {"files": {"prompt": (None, "a cat"), "input_reference": ("a", picture())}}


async def killed_at(server: Server, point: str) -> None:
    """Ask for a video of a gateway that dies at this point, and never hear of it."""
    await server.start(VIDEO_GATEWAY_FAILPOINTS=f"{point}=kill@1")
    async with server.ask() as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/videos", **wish(), headers=KEY)
    assert await server.ended() == -signal.SIGKILL


@pytest.mark.parametrize("point", ["accept.read", "accept.spooled"])
async def test_what_was_not_committed_was_never_there(
    upstream: Upstream, make_server: MakeServer, point: str
) -> None:
    server = make_server(upstream.url)
    await killed_at(server, point)
    left = list((server.data / "inputs").iterdir())
    assert bool(left) == (point == "accept.spooled")  # what the next start must find
    await server.start()
    async with server.ask() as client:
        assert (await client.get("/videos")).json()["data"] == []
    assert list((server.data / "inputs").iterdir()) == []
    assert server.states() == []
    assert upstream.posts == 0


async def test_what_was_committed_runs_and_the_same_request_finds_it(
    upstream: Upstream, make_server: MakeServer
) -> None:
    upstream.answer_posts.set()
    upstream.send_all.set()
    server = make_server(upstream.url)
    await killed_at(server, "accept.committed")
    ((accepted,),) = server.read("SELECT id FROM jobs")
    await server.start()
    await until(lambda: upstream.posts == 1)  # nobody had to ask again
    async with server.ask() as client:
        again = await client.post("/videos", **wish(), headers=KEY)
    assert (again.status_code, again.json()["id"]) == (200, accepted)
    await until(lambda: server.states() == ["completed"])
    assert upstream.posts == 1


async def test_a_download_that_was_killed_goes_on_by_range(
    upstream: Upstream, make_server: MakeServer
) -> None:
    upstream.answer_posts.set()
    server = make_server(upstream.url)
    await server.start()
    async with server.ask() as client:
        video = (await client.post("/videos", json={"prompt": "a cat"})).json()["id"]
    part = server.data / "parts" / f"{video}.part"
    least = len(upstream.video) // 3
    await until(lambda: part.exists() and part.stat().st_size > least)
    await server.stop()  # kill -9
    upstream.send_all.set()
    await server.start()
    await until(lambda: server.states() == ["completed"])
    (resumed,) = upstream.ranges
    assert int(resumed.removeprefix("bytes=").rstrip("-")) > least
    async with server.ask() as client:
        assert (await client.get(f"/videos/{video}/content")).content == upstream.video
    assert upstream.posts == 1
