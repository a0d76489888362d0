"""What is asked of litellm's client, in an environment that holds nothing else.

Run as `litellm_calls.py visit`; prints one JSON document of what it saw. Where and with which key
stands in the environment, as for calls.py. litellm has no call that deletes a video.
"""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import litellm

(URL,) = os.environ["BASE_URLS"].split(",")
PICTURE = Path(os.environ["PICTURE"])
HERE = {"api_base": f"{URL}/v1", "api_key": os.environ["API_KEY"]}
LISTS = {**HERE, "custom_llm_provider": "openai"}
MODEL = "openai/sora-2"

litellm.suppress_debug_info = True  # it would print to the output that holds our document


def told(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returns, or the error that it raises, as JSON can hold it."""
    try:
        seen = call(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - told to the test, which knows what it wants
        status = getattr(error, "status_code", None)
        return {"raised": type(error).__name__, "status": status, "message": str(error)}
    return seen.model_dump() if hasattr(seen, "model_dump") else seen


def finished(video_id: str) -> tuple[list[str], Any]:
    """All words for a status until the video is there, and the video."""
    words: list[str] = []
    while not words or words[-1] in ("queued", "in_progress", "submitted"):
        video = litellm.video_status(video_id=video_id, **HERE)
        if [video.status] != words[-1:]:
            words.append(video.status)
        time.sleep(0.05)
    return words, video.model_dump()


def pages(limit: int, order: str) -> list[str]:
    """The prompts of all videos, page after page: litellm leaves the asking to its caller."""
    found: list[str] = []
    after = None
    while True:
        page: Any = litellm.video_list(limit=limit, order=order, after=after, **LISTS)
        found += [video["prompt"] for video in page["data"]]
        if not page["has_more"]:
            return found
        after = page["last_id"]


async def at_once(create: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
    """The asynchronous functions."""
    video = await create("asynchronous")
    again = await litellm.avideo_status(video_id=video.id, **HERE)
    return {"created": video.model_dump(), "status": again.model_dump()}


def visit() -> dict[str, Any]:
    create = litellm.video_generation
    seen: dict[str, Any] = {"version": version("litellm")}
    seen["create_default"] = first = told(create, prompt="default", model=MODEL, **HERE)
    seen["create_all"] = told(
        create, prompt="all", model=MODEL, seconds="15", size="720x1280", **HERE
    )
    with PICTURE.open("rb") as stream:
        seen["create_stream"] = pictured = told(
            create, prompt="stream", model=MODEL, input_reference=stream, **HERE
        )
    picture = PICTURE.read_bytes()
    seen["create_buffer"] = told(
        create, prompt="buffer", model=MODEL, input_reference=picture, **HERE
    )
    seen["asynchronous"] = asyncio.run(
        at_once(lambda prompt: litellm.avideo_generation(prompt=prompt, model=MODEL, **HERE))
    )
    early = told(create, prompt="early", model=MODEL, **HERE)
    seen["not_ready"] = told(litellm.video_content, video_id=early["id"], **HERE)
    seen["asc"] = told(pages, 2, "asc")
    seen["desc"] = told(pages, 3, "desc")

    for name, video in (("first", first), ("pictured", pictured)):
        words, done = finished(video["id"])
        content = litellm.video_content(video_id=video["id"], **HERE)
        seen[name] = {
            "statuses": words,
            "done": done,
            "content": hashlib.sha256(content).hexdigest(),
        }
    failed = create(prompt="sandbox:policy litellm", model=MODEL, **HERE)
    seen["failed"] = finished(failed.id)[1]

    seen["unknown_id"] = told(litellm.video_status, video_id="video_of_nobody", **HERE)
    seen["bad_size"] = told(create, prompt="Big", model=MODEL, size="1x1", **HERE)
    seen["remix"] = told(litellm.video_remix, video_id=first["id"], prompt="x", **HERE)
    stranger = {**HERE, "api_key": "sk-wrong"}
    seen["wrong_key"] = told(create, prompt="In", model=MODEL, **stranger)
    return seen


print(json.dumps(visit()))
