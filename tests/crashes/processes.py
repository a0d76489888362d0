"""The real processes of a campaign: a sandbox, and one gateway after the other on one folder."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx

KEY = "sk-real-upstream-key-4242424242"
SPEED = 200.0
"""Seconds of the sandbox's clock in a real second."""

REQUESTS, PERIOD = 24, 240.0
"""The window, by the sandbox's clock: it lasts longer than a restart, which must not empty it."""

GENERATION = 20.0
GUARD = 0.1
"""Real seconds."""


_KEPT: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, and that nobody else is given as long as this process lives:
    it stays bound, which leaves it to whoever names it.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _KEPT.append(kept)
    return int(kept.getsockname()[1])


async def answers(url: str, process: Process | None = None) -> bool:
    """Whether `url` answers, tried until it does or `process` has ended."""
    async with httpx.AsyncClient() as client:
        while process is None or process.returncode is None:
            try:
                return (await client.get(url, timeout=10)).is_success
            except httpx.TransportError:
                await asyncio.sleep(0.02)
    return False


class Stack:
    """One sandbox, and the gateway in front of it, which may be killed at any time."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "config.toml"
        self.log = folder / "gateway.log"
        self.port, self.sandbox_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.upstream = f"http://127.0.0.1:{self.sandbox_port}"
        self.pid = 0
        self._environ = environ or {}
        self._sandbox: Process | None = None
        self._starter: Process | None = None
        self._ended: asyncio.Task[int] | None = None

    def write_config(self, path: Path, data: Path, port: int) -> None:
        """The default settings, in the seconds of the sandbox's clock."""
        path.write_text(f"""
            [server]
            port = {port}
            data_dir = "{data}"
            grace = 10
            [auth]
            mode = "open"
            [[accounts]]
            base_url = "{self.upstream}"
            requests = {REQUESTS}
            period = {PERIOD / SPEED}
            guard = {GUARD}
            [polling]
            interval = {30 / SPEED}
            expected = {GENERATION / SPEED}
            max_wait = {600 / SPEED}
            task_life = {3600 / SPEED}
            [timeouts]
            submit = 5
            [limits]
            requests = 1000000
        """)

    async def open(self) -> None:
        """Start the sandbox and the warm process."""
        self.write_config(self.config, self.data, self.port)
        options = {
            "port": self.sandbox_port, "key": KEY, "speed": SPEED, "generation": GENERATION,
            "fps": 1, "ttl": 1e9, "requests": REQUESTS, "period": PERIOD,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "gateway", "sandbox", *words, "--latency", "0", "6"]
        with (self.folder / "sandbox.log").open("wb") as log:
            self._sandbox = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        starter = [sys.executable, str(Path(__file__).parent / "starter.py")]
        self._starter = await asyncio.create_subprocess_exec(*starter, stdin=PIPE, stdout=PIPE)
        assert await answers(f"{self.upstream}/_sandbox/record", self._sandbox)

    async def start(self, failpoints: str = "", config: Path | None = None) -> None:
        """Start a gateway; it may be dead before this returns."""
        assert self._starter is not None
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        variables = {"UPSTREAM_API_KEY": KEY, "VIDEO_GATEWAY_FAILPOINTS": failpoints}
        wanted = {
            "arguments": ["serve", "--config", str(config or self.config)],
            "environ": self._environ | variables,
            "log": str(self.log),
        }
        self._starter.stdin.write(json.dumps(wanted).encode() + b"\n")
        self.pid = int(await self._starter.stdout.readline())
        self._ended = asyncio.create_task(self._read_status(self._starter.stdout))

    async def _read_status(self, answers: asyncio.StreamReader) -> int:
        status = int(await answers.readline())
        self.pid = 0
        return status

    async def ends(self, seconds: float) -> int | None:
        """The gateway's exit status, if it ends so soon."""
        assert self._ended is not None
        await asyncio.wait((self._ended,), timeout=seconds)
        return self._ended.result() if self._ended.done() else None

    async def signal(self, number: int) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, unless it is dead already."""
        await self.signal(signal.SIGKILL)
        assert self._ended is not None
        await self._ended

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the ledger's file as it stands on disk."""
        with closing(sqlite3.connect(self.data / "ledger.sqlite", timeout=30)) as ledger:
            return ledger.execute(sql).fetchall()

    def record(self) -> dict[str, Any]:
        """The upstream's own record of all that reached it."""
        return dict(httpx.get(f"{self.upstream}/_sandbox/record", timeout=60).json())

    async def close(self) -> None:
        if self.pid:
            await self.kill()
        for process in (self._starter, self._sandbox):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
