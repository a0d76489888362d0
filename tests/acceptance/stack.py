"""Real processes on real ports: the sandbox upstream, the gateway, and what they leave on disk.

Owns starting, killing and asking them. Nothing here imports the gateway: what these
tests see is what a caller sees.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from crashes.processes import free_port

T = TypeVar("T")

REAL_KEY = "sk-real-upstream-key-4242424242"
"""The upstream's key: nobody but the upstream may ever see it."""

SPEED = 40.0
"""Seconds of the sandbox's clock in a real second."""

START_SECONDS = 60.0
"""A process that does not answer by then won't."""


async def until(probe: Callable[[], T | None], seconds: float = START_SECONDS) -> T:
    """What `probe` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not happen within {seconds} s")


@dataclass
class Stack:
    """A sandbox and a gateway in front of it, both processes of their own, in one folder."""

    folder: Path
    count: str = "arrival"
    generation: float = 80.0
    guard: float = 0.15
    """Real seconds; must cover how late this machine lets the sandbox note an answer's end."""
    mode: str = "keys"
    speed: float = SPEED
    latency: tuple[float, float] = (0.3, 1.5)
    sandbox_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    gateway: subprocess.Popen[bytes] | None = None
    sandbox: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def write_config(self) -> None:
        """The default settings, in the seconds of the sandbox's clock."""
        self.config.write_text(f"""
            [server]
            port = {self.port}
            data_dir = "{self.data}"
            grace = 12.0
            [timeouts]
            submit = 10.0
            [auth]
            mode = "{self.mode}"
            [[accounts]]
            base_url = "http://127.0.0.1:{self.sandbox_port}"
            period = {60 / self.speed}
            guard = {self.guard}
            [polling]
            interval = {30 / self.speed}
            expected = {self.generation / self.speed}
            max_wait = {600 / self.speed}
            task_life = {3600 / self.speed}
        """)

    async def start(self) -> None:
        """Both, each of which starts without the other."""
        await asyncio.gather(self.start_sandbox(), self.start_gateway())

    async def start_sandbox(self) -> None:
        low, high = self.latency
        self.sandbox = self._spawn(
            "sandbox", "--port", self.sandbox_port, "--key", REAL_KEY, "--speed", self.speed,
            "--count", self.count, "--generation", self.generation, "--latency", low, high,
            "--fps", 1, log=self.folder / "sandbox.log",
        )  # fmt: skip
        await until(lambda: self._answers(f"{self.upstream}/_sandbox/record"))

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    async def start_gateway(self) -> None:
        self.gateway = self._spawn("serve", "--config", self.config, log=self.log)
        await until(lambda: self._answers(f"{self.url}/readyz"))

    def kill_gateway(self) -> None:
        """kill -9: nothing of it may run on."""
        assert self.gateway is not None
        self.gateway.kill()
        self.gateway.wait()

    def stop_gateway(self) -> None:
        """SIGTERM, and wait for its end."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGTERM)
        self.gateway.wait(timeout=30)

    def stop(self) -> None:
        for process in (self.gateway, self.sandbox):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    def create_key(self, name: str) -> str:
        """A caller's key, made by the command line."""
        command = [sys.executable, "-m", "gateway", "keys", "create", name]
        command += ["--config", str(self.config)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def record(self) -> dict[str, Any]:
        """The upstream's own record of all that reached it."""
        return dict(httpx.get(f"{self.upstream}/_sandbox/record", timeout=30).json())

    def ledger(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the ledger's file, as it stands on disk."""
        connection = sqlite3.connect(self.data / "ledger.sqlite")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def log_lines(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _spawn(self, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gateway", *map(str, arguments)]
        environ = {**os.environ, "UPSTREAM_API_KEY": REAL_KEY}
        with log.open("ab") as output:
            return subprocess.Popen(command, env=environ, stdout=output, stderr=output)

    def _answers(self, url: str) -> bool:
        for process in (self.sandbox, self.gateway):
            if process is not None and process.poll() not in (None, -signal.SIGKILL):
                raise AssertionError(f"a process ended: {self.log.read_text()[-2000:]}")
        try:
            return httpx.get(url, timeout=5, verify=False).is_success  # reads no authorities
        except httpx.TransportError:
            return False
