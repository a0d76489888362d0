"""One client's visit to the gateway: its script run in its own environment, over a line that notes
what it sends.

A visit makes many calls in one process, since starting a client costs more than its calls; each
test then looks at its own part.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import environments
from .line import Line, Loss, Sent

RUN_SECONDS = 120.0
"""A script that has not ended by then won't."""


@dataclass(frozen=True)
class Sdk:
    """A client: its lock's folder, its script, and what the script is told."""

    lock: str
    language: str
    mode: str = ""

    def __str__(self) -> str:
        return f"{self.lock} {self.mode}".strip()

    @property
    def newest(self) -> bool:
        return self.lock in ("openai-python", "openai-node")

    def command(self, task: str) -> list[str]:
        """The command that runs a task. Raises CannotMake."""
        if self.language == "node":
            folder = environments.packages_of(self.lock)
            script = environments.LOCKS / "calls.mjs"
            return [str(environments.node()), str(script), task, str(folder)]
        script = environments.LOCKS / ("calls.py" if self.mode else "litellm_calls.py")
        python = environments.python_of(self.lock)
        return [str(python), "-I", str(script), task, *([self.mode] if self.mode else [])]


NODE = Sdk("openai-node", "node")

OPENAI = (
    Sdk("openai-python", "python", "sync"),
    Sdk("openai-python", "python", "async"),
    Sdk("openai-python-2.2.0", "python", "sync"),
    Sdk("openai-python-2.2.0", "python", "async"),
    NODE,
    Sdk("openai-node-6.2.0", "node"),
)

LITELLM = Sdk("litellm", "python")


@dataclass(frozen=True)
class Visit:
    """What a client said it saw, and what it sent on each of its lines."""

    sdk: Sdk
    seen: dict[str, Any]
    lines: list[Line]

    @property
    def sent(self) -> list[Sent]:
        return self.lines[0].sent()

    @property
    def tag(self) -> str:
        """What ends each prompt of this client."""
        return f"{self.seen['version']} {self.sdk.mode}".strip()

    def post(self, word: str) -> Sent:
        """The one POST whose prompt begins with a word."""
        prompt = f"{word} {self.tag}".encode()
        (found,) = (each for each in self.sent if each.method == "POST" and prompt in each.body)
        return found

    def gets(self, target: str) -> list[Sent]:
        return [each for each in self.sent if (each.method, each.target) == ("GET", target)]


@dataclass(frozen=True)
class Where:
    """A gateway, a caller's key for it, and a picture to send. `home`: an empty folder."""

    port: int
    key: str
    picture: Path
    home: Path

    def visit(self, sdk: Sdk, task: str, losses: Sequence[tuple[Loss, int]] = ()) -> Visit:
        """Run a script; `losses`: a line for each, and how many answers it loses."""
        command = sdk.command(task)
        lines = [Line(self.port, loss, count) for loss, count in losses or [("closed", 0)]]
        return Visit(sdk, asyncio.run(self._run(command, lines)), lines)

    async def _run(self, command: list[str], lines: list[Line]) -> dict[str, Any]:
        urls = []
        for line in lines:
            await line.open()
            urls.append(line.url)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BASE_URLS": ",".join(urls),
            "API_KEY": self.key,
            "PICTURE": str(self.picture),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched from somewhere
        }
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            for line in lines:
                await line.close()
        assert process.returncode == 0, err.decode()[-3000:]
        return dict(json.loads(out))
