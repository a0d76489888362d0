"""Callers as they are in real life: OpenAI's own SDK, with nothing but base_url and api_key set."""

import hashlib
from dataclasses import dataclass, field

import httpx
from openai import AsyncOpenAI

from .stack import Stack


@dataclass
class Caller:
    """One caller. `statuses` are of all answers that it ever got."""

    name: str
    client: AsyncOpenAI
    statuses: list[int] = field(default_factory=list)

    async def make(self, prompt: str) -> str:
        """Create, poll, download: the SHA-256 of the video."""
        video_id = await self.submit(prompt)
        return await self.fetch(video_id)

    async def submit(self, prompt: str) -> str:
        answer = await self.client.videos.with_raw_response.create(prompt=prompt, seconds="10")
        self.statuses.append(answer.status_code)
        return answer.parse().id

    async def fetch(self, video_id: str) -> str:
        video = await self.client.videos.poll(video_id, poll_interval_ms=300)
        assert video.status == "completed", video.error
        content = await self.client.videos.download_content(video_id)
        self.statuses.append(content.response.status_code)
        return hashlib.sha256(await content.aread()).hexdigest()


def metric(stack: Stack, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = httpx.get(f"{stack.url}/metrics").text.splitlines()
    values = [
        line.rsplit(" ", 1)[1] for line in lines if line.startswith((f"{name}{{", f"{name} "))
    ]
    return sum(map(float, values))
