"""`video-gateway demo`: the gateway on the sandbox upstream, in one process. Makes one video and
stays up.
"""

import asyncio
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from gateway import log
from gateway.cli.create import make_video
from gateway.cli.serve import build_server
from gateway.config import AccountSettings, Auth, Polling, Settings
from gateway.config import Server as ServerSettings

SPEED = 30.0
"""Seconds of the sandbox's clock in a real second: a video of four minutes takes eight seconds."""

PROMPT = "A paper boat sails down a rainy street at dusk"
KEY = "sandbox-key"


def demo(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to save the video.")] = Path(
        "demo.mp4"
    ),
) -> None:
    """Run the gateway on the sandbox upstream, make one video through it, and stay up."""
    with (
        tempfile.TemporaryDirectory(prefix="video-gateway-demo-") as folder,
        suppress(KeyboardInterrupt),
    ):
        asyncio.run(_demo(port, output, Path(folder)))


async def _demo(port: int, output: Path, folder: Path) -> None:
    from gateway.sandbox import SandboxSettings, running

    log.configure([KEY], level=log.WARNING)
    url = f"http://127.0.0.1:{port}"
    async with running(SandboxSettings(api_key=KEY, speed=SPEED)) as upstream:
        server = build_server(demo_settings(upstream.url, port, folder), {"sandbox": KEY})
        serving = asyncio.create_task(server.serve())
        if await server.wait_started(serving):
            print(f"The gateway is up at {url}; its upstream is a sandbox whose clock runs fast.")
            # Who ends the demo ends the gateway: it does not come back to be waited for.
            saved = await asyncio.to_thread(
                make_video, url, "", PROMPT, output=output, patience=0.0
            )
            print(f"A video was made through it: {saved.resolve()}")
            print(f'Make another: {_command()} create "YOUR PROMPT" --url {url}')
            print("Ctrl-C ends it.", flush=True)
        await serving


def _command() -> str:
    """How this program was called; it need not be on the shell's path."""
    return sys.argv[0] if Path(sys.argv[0]).name == "video-gateway" else "python -m gateway"


def demo_settings(upstream: str, port: int, folder: Path) -> Settings:
    """The default settings, with the seconds of a clock that runs `SPEED` times as fast."""
    account = AccountSettings(name="sandbox", base_url=upstream, period=60 / SPEED, guard=0.1)
    polling = Polling(interval=30 / SPEED, expected=240 / SPEED)
    return Settings(
        server=ServerSettings(port=port, data_dir=folder),
        auth=Auth(mode="open"),
        accounts=[account],
        polling=polling,
    )
