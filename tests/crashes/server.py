"""One real gateway on a folder of its own, in front of any upstream, started as a shell would."""

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import Process
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from .processes import KEY, answers, free_port


class Server:
    """A gateway's process. `prefix`: a command to run it under; `environ`: variables beside."""

    def __init__(self, folder: Path, upstream: str, *lines: str, data: Path | None = None) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.config = folder / "config.toml"
        self.log = folder / "gateway.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: Process | None = None
        self.config.write_text(
            "\n".join(
                [
                    "[auth]",
                    'mode = "open"',
                    "[[accounts]]",
                    f'base_url = "{upstream}"',
                    "period = 0.1",
                    "guard = 0.0",
                    "[polling]",
                    "interval = 0.1",
                    "expected = 0.1",
                    *lines,
                    "[server]",
                    f"port = {self.port}",
                    f'data_dir = "{self.data}"',
                ]
            )
        )

    async def run(self, *prefix: str, **environ: str) -> Process:
        """Start it, and don't wait for anything."""
        command = [*prefix, sys.executable, "-m", "gateway", "serve", "--config", str(self.config)]
        variables = {**os.environ, "UPSTREAM_API_KEY": KEY, **environ}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=variables, stdout=log, stderr=log
            )
        return self.process

    async def start(self, *prefix: str, **environ: str) -> None:
        """Start it, until it answers."""
        process = await self.run(*prefix, **environ)
        assert await answers(f"{self.url}/healthz", process), self.log.read_text()

    def tell(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def refusal(self, *prefix: str, **environ: str) -> list[str]:
        """What it says when it can't start, by lines."""
        self.log.unlink(missing_ok=True)
        await self.run(*prefix, **environ)
        assert await self.ended() == 2, self.log.read_text()
        return self.log.read_text().splitlines()

    def ask(self) -> httpx.AsyncClient:
        """A caller's client."""
        return httpx.AsyncClient(base_url=f"{self.url}/v1", timeout=30)

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the ledger's file as it stands on disk."""
        with closing(sqlite3.connect(self.data / "ledger.sqlite", timeout=30)) as ledger:
            return ledger.execute(sql).fetchall()

    def states(self) -> list[str]:
        """The states of all jobs, in the order that they were accepted in."""
        return [row[0] for row in self.read("SELECT state FROM jobs ORDER BY seq")]
