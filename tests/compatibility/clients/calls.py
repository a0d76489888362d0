"""What is asked of OpenAI's Python SDK, in an environment that holds nothing else.

Run as `calls.py visit|repeat|twins|interval sync|async`; prints one JSON document of what it saw.
Where and with which key stands in the environment: BASE_URLS (one, or several with commas),
API_KEY, PICTURE (the path of a PNG).
"""

import asyncio
import base64
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai

BASE_URLS = os.environ["BASE_URLS"].split(",")
API_KEY = os.environ["API_KEY"]
PICTURE = Path(os.environ["PICTURE"])
IMAGE = PICTURE.read_bytes()
TASK, MODE = sys.argv[1:]
NEW = int(openai.__version__.partition(".")[0]) >= 3
"""2.2.0 knows no edits, extensions or characters."""

Client = Any
Step = Callable[[Client], Awaitable[Any]]


def connect(url: str, **options: Any) -> Client:
    kind = openai.AsyncOpenAI if MODE == "async" else openai.OpenAI
    return kind(**{"base_url": f"{url}/v1", "api_key": API_KEY} | options)


async def result(value: Any) -> Any:
    """What a call gives, of either client."""
    return await value if inspect.isawaitable(value) else value


async def both(call: Callable[[], Any]) -> list[Any]:
    """The same call twice at once."""
    if MODE == "async":
        return list(await asyncio.gather(call(), call()))
    return list(await asyncio.gather(asyncio.to_thread(call), asyncio.to_thread(call)))


async def every(pages: Any) -> list[str]:
    """The ids of all pages; the SDK asks for the next one by itself."""
    if hasattr(pages, "__aiter__"):
        return [video.id async for video in pages]
    return [video.id for video in pages]


async def download(client: Client, video_id: str) -> str:
    content = await result(client.videos.download_content(video_id))
    data = await content.aread() if MODE == "async" else content.read()
    return hashlib.sha256(data).hexdigest()


async def told(step: Step, client: Client) -> Any:
    """What a step returns, or the error that it raises, as JSON can hold it."""
    try:
        seen = await step(client)
    except openai.APIStatusError as error:
        return {
            "raised": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "type": error.type,
            "message": error.message,
            "request_id": error.request_id,
        }
    except Exception as error:  # noqa: BLE001 - told to the test, which knows what it wants
        return {"raised": type(error).__name__, "message": str(error)}
    return seen.to_dict() if hasattr(seen, "to_dict") else seen


async def visit() -> dict[str, Any]:
    (url,) = BASE_URLS
    client = connect(url)
    create = client.videos.create
    tag = f"{openai.__version__} {MODE}"
    image_url = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
    made: list[str] = []
    seen: dict[str, Any] = {"version": openai.__version__}

    async def note(name: str, step: Step, other: Client = None) -> Any:
        seen[name] = await told(step, other or client)
        video = seen[name] if isinstance(seen[name], dict) else {}
        if video.get("object") == "video" and video["id"] not in made:
            made.append(video["id"])
        return seen[name]

    first = await note("create_default", lambda c: result(create(prompt=f"default {tag}")))
    await note(
        "create_all",
        lambda c: result(
            create(prompt=f"all {tag}", model="sora-2", size="720x1280", seconds="15")
        ),
    )
    await note(
        "create_path", lambda c: result(create(prompt=f"path {tag}", input_reference=PICTURE))
    )
    with PICTURE.open("rb") as stream:
        await note(
            "create_stream",
            lambda c: result(create(prompt=f"stream {tag}", input_reference=stream)),
        )
    buffer = ("picture.bin", IMAGE, "application/octet-stream")
    await note(
        "create_buffer", lambda c: result(create(prompt=f"buffer {tag}", input_reference=buffer))
    )
    reference: Any = {"image_url": image_url}
    body = {"input_reference": reference}
    await note("create_object", lambda c: result(create(prompt=f"object {tag}", extra_body=body)))
    await note("create_object_itself", lambda c: result(create(prompt="object itself", **body)))

    await note("retrieve", lambda c: result(c.videos.retrieve(made[-1])))
    early = await note("create_early", lambda c: result(create(prompt=f"early {tag}")))
    await note("not_ready", lambda c: download(c, early["id"]))

    await note("all_asc", lambda c: every(c.videos.list(limit=2, order="asc")))
    await note("all_desc", lambda c: every(c.videos.list(limit=3, order="desc")))
    await note("all_default", lambda c: every(c.videos.list()))
    await note("page", lambda c: page(c, limit=2))
    await note("page_empty", lambda c: page(c, after=made[-1], order="asc"))
    seen["made"] = [*made]

    async def delete_waiting(c: Client) -> list[Any]:
        return [(await result(c.videos.delete(each))).to_dict() for each in made[1:]]

    await note("delete_waiting", delete_waiting)

    await note("statuses", lambda c: statuses(c, first["id"]))
    await note("content", lambda c: download(c, first["id"]))
    await note("done", lambda c: result(c.videos.retrieve(first["id"])))
    await note("thumbnail", lambda c: variant(c, first["id"]))
    polled = client.videos.create_and_poll
    other = await note(
        "with_picture",
        lambda c: result(
            polled(prompt=f"picture {tag}", input_reference=PICTURE, poll_interval_ms=100)
        ),
    )
    await note("with_picture_content", lambda c: download(c, other["id"]))
    await note(
        "failed", lambda c: result(polled(prompt=f"sandbox:policy {tag}", poll_interval_ms=100))
    )

    await note("delete", lambda c: result(c.videos.delete(first["id"])))
    await note("deleted", lambda c: result(c.videos.retrieve(first["id"])))
    await note("left", lambda c: every(c.videos.list(limit=100)))

    await note("unknown_id", lambda c: result(c.videos.retrieve("video_of_nobody")))
    await note("bad_size", lambda c: result(create(prompt="Big", size="1792x1024")))
    await note("bad_model", lambda c: result(create(prompt="Pro", model="sora-2-pro")))
    await note("bad_file", lambda c: result(create(prompt="No", input_reference=b"no picture")))
    await note("no_prompt", lambda c: result(create(prompt="")))
    far = {"image_url": "http://127.0.0.1/picture.png"}
    await note(
        "far_image",
        lambda c: result(create(prompt="Far", extra_body={"input_reference": far})),
    )
    await note("remix", lambda c: result(c.videos.remix(other["id"], prompt="Again")))
    if NEW:
        await note("edit", lambda c: result(c.videos.edit(prompt="x", video=b"no video")))
        await note(
            "extend",
            lambda c: result(c.videos.extend(prompt="x", seconds="4", video=b"no video")),
        )
        await note("character", lambda c: result(c.videos.get_character("char_1")))
        await note(
            "create_character",
            lambda c: result(c.videos.create_character(name="x", video=b"no video")),
        )
    stranger = connect(url, api_key="sk-wrong")
    await note("wrong_key", lambda c: result(c.videos.list()), stranger)
    await note("wrong_key_create", lambda c: result(c.videos.create(prompt="In")), stranger)
    return seen


async def page(client: Client, **query: Any) -> dict[str, Any]:
    """One page as the SDK reads it."""
    answer = await result(client.videos.list(**query))
    return {
        "object": answer.object,
        "ids": [video.id for video in answer.data],
        "has_more": answer.has_more,
        "first_id": answer.model_extra.get("first_id", getattr(answer, "first_id", None)),
        "last_id": answer.last_id,
    }


async def statuses(client: Client, video_id: str) -> list[str]:
    """All words for a status until the video is there, in their order."""
    words: list[str] = []
    while not words or words[-1] in ("queued", "in_progress", "submitted"):
        status = (await result(client.videos.retrieve(video_id))).status
        if [status] != words[-1:]:
            words.append(status)
        await asyncio.sleep(0.05)
    return words


async def variant(client: Client, video_id: str) -> Any:
    await result(client.videos.download_content(video_id, variant="thumbnail"))


async def repeat() -> dict[str, Any]:
    """Create over lines that lose answers, with the SDK's own retries; first with a stream."""
    created = {}
    for number, url in enumerate(BASE_URLS):
        client = connect(url, timeout=1.5)
        prompt = f"repeated {number} {openai.__version__} {MODE}"

        async def create(c: Client, prompt: str = prompt, number: int = number) -> str:
            with PICTURE.open("rb") as stream:
                image = PICTURE if number else stream
                video = await result(c.videos.create(prompt=prompt, input_reference=image))
            return str(video.id)

        created[prompt] = await told(create, client)
    return {
        "created": created,
        "listed": await every(connect(BASE_URLS[-1]).videos.list(limit=100)),
    }


async def twins() -> dict[str, Any]:
    """The same video wanted twice at once, over each line."""
    created = {}
    for number, url in enumerate(BASE_URLS):
        prompt = f"twins {number} {openai.__version__} {MODE}"

        def create(url: str = url, prompt: str = prompt) -> Any:
            return connect(url, timeout=1.5).videos.create(prompt=prompt)

        created[prompt] = [video.id for video in await both(create)]
    return {
        "created": created,
        "listed": await every(connect(BASE_URLS[-1]).videos.list(limit=100)),
    }


async def interval() -> dict[str, Any]:
    """Nobody says how often to poll: the server's header does."""
    (url,) = BASE_URLS
    video = await result(connect(url).videos.create_and_poll(prompt="at leisure"))
    return dict(video.to_dict())


TASKS = {"visit": visit, "repeat": repeat, "twins": twins, "interval": interval}
print(json.dumps(asyncio.run(TASKS[TASK]())))
