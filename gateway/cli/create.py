"""`video-gateway create`: make one video through a gateway and save it, as any caller could."""

import os
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.errors import GatewayError
from gateway.keys import fits_a_header

POLL_SECONDS = 1.0
"""A poll costs the gateway a look-up in memory, and upstream nothing."""

PATIENCE = 120.0
"""Seconds without an answer after which a video is not waited for any more. A gateway that is
started anew may first spend `server.grace`, 65 s as a rule, on what is under way.
"""

LOST = (502, 504)
"""What a proxy answers for an answer that it did not get."""

AWAY = (*LOST, 503)
"""What a proxy answers for a gateway that is not there."""

URL = "http://127.0.0.1:8080"


def create(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    model: Annotated[str | None, typer.Option(help="What makes it.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Its length.")] = None,
    size: Annotated[str | None, typer.Option(help="Its size, WIDTHxHEIGHT.")] = None,
    image: Annotated[Path | None, typer.Option(help="A PNG or JPEG to begin with.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to save it; else ID.mp4.")
    ] = None,
    url: Annotated[str, typer.Option(help="The gateway.", envvar="VIDEO_GATEWAY_URL")] = URL,
    key: Annotated[str, typer.Option(help="Your key.", envvar="VIDEO_GATEWAY_KEY")] = "",
) -> None:
    """Make a video and save it."""
    print(make_video(url, key, prompt, model, seconds, size, image, output))


def make_video(
    url: str,
    key: str,
    prompt: str,
    model: str | None = None,
    seconds: str | None = None,
    size: str | None = None,
    image: Path | None = None,
    output: Path | None = None,
    patience: float = PATIENCE,
) -> Path:
    """Create, wait, download; where the MP4 lies. Raises GatewayError in the gateway's own
    words. `patience`: seconds for which a gateway may be away once the video is accepted.
    """
    _check(key, output)
    fields = {"prompt": prompt, "model": model, "seconds": seconds, "size": size}
    given = {name: text for name, text in fields.items() if text is not None}
    parts: list[tuple[str, Any]] = [(name, (None, text)) for name, text in given.items()]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    base = url.rstrip("/").removesuffix("/v1")  # OpenAI's clients want it with that
    try:
        if image is not None:
            parts.append(("input_reference", (image.name, image.read_bytes())))
        with httpx.Client(base_url=base, headers=headers, timeout=60, trust_env=False) as client:
            video = _ask(client, parts, patience)
            later = f"{base}/v1/videos/{video['id']}/content has it once it is completed"
            try:
                print(video["id"], file=sys.stderr)  # whatever comes, it can be fetched by that
                video = _wait(client, video, patience)
                target = output or Path(f"{video['id']}.mp4")
                _save(client, video["id"], target, patience)
            except KeyboardInterrupt:
                raise GatewayError(f"it goes on: {later}") from None
            except TimeoutError:
                raise GatewayError(f"{base} does not answer any more: {later}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise GatewayError(f"{url} can't be reached: {error}") from error
    except OSError as error:
        raise GatewayError(f"{error.filename}: {error.strerror}") from error
    return target


def _check(key: str, output: Path | None) -> None:
    """What would be found wrong only once a video is paid for, or has no words of its own."""
    if not fits_a_header(key):
        raise GatewayError("the key is none: it holds other characters than a key has")
    if output is not None and output.is_dir():
        raise GatewayError(f"{output} is a folder: name a file in it")
    folder = Path() if output is None else output.parent
    if not folder.is_dir():
        raise GatewayError(f"there is no folder {folder} to save the video in")
    if not os.access(folder, os.W_OK):
        raise GatewayError(f"the folder {folder} can't be written to")


def _ask(client: httpx.Client, parts: list[tuple[str, Any]], patience: float) -> dict[str, Any]:
    """Ask for the video. Where the answer is lost it is asked for again by the same key, for it may
    have been taken: so it is one.
    """
    headers = {"idempotency-key": token_hex(16)}
    lost: float | None = None
    while lost is None or time.monotonic() - lost <= patience:
        try:
            response = client.post("/v1/videos", files=parts, headers=headers)
        except httpx.ConnectError:
            if lost is None:  # nobody is there
                raise
        except httpx.TransportError:
            pass
        else:
            if response.status_code not in LOST:
                return _read(response)
        lost = lost or time.monotonic()
        time.sleep(POLL_SECONDS)
    raise GatewayError("no answer came, and it is not known whether the video is being made")


def _wait(client: httpx.Client, video: dict[str, Any], patience: float) -> dict[str, Any]:
    """The video when it is over. Raises TimeoutError when nobody has answered for `patience`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(video["status"], total=100)
        heard = time.monotonic()
        while video["status"] not in ("completed", "failed"):
            time.sleep(POLL_SECONDS)
            if (seen := _look(client, video["id"])) is not None:
                video, heard = seen, time.monotonic()
                progress.update(bar, description=video["status"], completed=video["progress"])
            elif time.monotonic() - heard > patience:
                raise TimeoutError
            else:
                progress.update(bar, description="no answer")
    if video["status"] == "failed":
        raise GatewayError(f"{video['id']} failed: {video['error']['message']}")
    return video


def _look(client: httpx.Client, video_id: str) -> dict[str, Any] | None:
    """How a video stands; None: the gateway is away, and may be starting anew."""
    try:
        response = client.get(f"/v1/videos/{video_id}")
    except httpx.TransportError:
        return None
    return None if response.status_code in AWAY else _read(response)


def _save(client: httpx.Client, video_id: str, target: Path, patience: float) -> None:
    """Download a video to `target`. Raises TimeoutError when the gateway is away for `patience`."""
    away: float | None = None
    while not _download(client, video_id, target):
        away = away or time.monotonic()
        if time.monotonic() - away > patience:
            raise TimeoutError
        time.sleep(POLL_SECONDS)


def _download(client: httpx.Client, video_id: str, target: Path) -> bool:
    """Whether a video came whole, to `target`; else the gateway is away, as in `_look`."""
    part = target.with_name(f"{target.name}.part")
    try:
        with client.stream("GET", f"/v1/videos/{video_id}/content") as response:
            if response.status_code in AWAY:
                return False
            if response.status_code != 200:
                response.read()
                _read(response)
            with part.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
        os.replace(part, target)
    except httpx.TransportError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def _read(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
        if response.is_success:
            return dict(body)
        message = body["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"it answered {response.status_code}"
    raise GatewayError(message)
