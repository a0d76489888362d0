"""The server that is fuzzed: a real process in front of the sandbox, and what must hold of it in
the end.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from acceptance.stack import REAL_KEY, Stack, until
from acceptance.test_memory import peak

MOST_MEMORY = 300_000_000
"""Bytes that the server may hold at its fullest."""

LIMITS = """
[limits]
requests = 100000000
wrong_keys = 1000000
head = 1.0
idle = 1.0
stall = 1.0
"""
"""Deadlines that are met often, and no bound that would answer before the code that is meant."""


@dataclass
class Target:
    """`mine`, `theirs`: completed videos of two callers. `key`: of the first."""

    stack: Stack
    key: str = ""
    mine: str = ""
    theirs: str = ""
    secrets: list[str] = field(default_factory=lambda: [REAL_KEY])

    @property
    def port(self) -> int:
        return self.stack.port

    async def start(self) -> None:
        stack = self.stack
        stack.write_config()
        with stack.config.open("a") as config:
            config.write(LIMITS)
        await stack.start()
        self.key, other = (stack.create_key(name) for name in ("alice", "bob"))
        self.secrets += [self.key, other]
        self.mine, self.theirs = [await self._completed(key) for key in (self.key, other)]

    async def _completed(self, key: str) -> str:
        headers = {"authorization": key}
        with httpx.Client(base_url=self.stack.url, headers=headers, timeout=30) as client:
            video = client.post("/v1/videos", json={"prompt": "a cat"}).json()["id"]
            await until(
                lambda: client.get(f"/v1/videos/{video}").json()["status"] == "completed", 90
            )
        return str(video)

    def memory(self) -> int:
        """Bytes that the server held at its fullest."""
        assert self.stack.gateway is not None
        return peak(self.stack.gateway.pid)

    def complaints(self) -> list[str]:
        """What is wrong with the server after all of it."""
        found = []
        assert self.stack.gateway is not None
        if self.stack.gateway.poll() is not None:
            found.append("the server has ended")
        else:
            headers = {"authorization": self.key}
            video = httpx.get(f"{self.stack.url}/v1/videos/{self.mine}/content", headers=headers)
            if not (video.status_code == 200 and video.content[4:8] == b"ftyp"):
                found.append(f"a video is no longer served: {video.status_code}")
            if self.memory() >= MOST_MEMORY:
                found.append(f"it held {self.memory()} bytes")
        return [*found, *_in_log(self.stack.log, self.secrets)]


def _in_log(path: Path, secrets: list[str]) -> list[str]:
    """What must not stand in a log, each once."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        for secret in secrets:
            if secret in line:
                found["a key is in the log"] = ""
        told = json.loads(line) if line.startswith("{") else {"event": line}
        event = str(told["event"])
        odd = "unplanned" in event or "ASGI" in event or "Traceback" in line
        if odd or not line.startswith("{"):
            found.setdefault(event, line[-3000:])
    return [f"log: {event} {line}" for event, line in found.items()]
