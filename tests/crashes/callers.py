"""Callers who work on whatever happens to the gateway, and note what they were promised."""

import asyncio
import hashlib
import io
import random
from dataclasses import dataclass

import httpx
from PIL import Image

FINAL = ("completed", "failed")
UNKNOWN = "submission_outcome_unknown"


@dataclass
class Note:
    """What its caller knows of one video. `ended`: completed, deleted, or the error's code."""

    prompt: str
    id: str = ""
    ended: str = ""
    sha256: str = ""


class Crowd:
    """Callers of one gateway. `notes` are of all that was ever asked for."""

    def __init__(self, url: str, seed: int) -> None:
        self.notes: list[Note] = []
        self.closing = False
        self._chance = random.Random(seed)
        self._url = f"{url}/v1/videos"
        self._http = httpx.AsyncClient(timeout=30)

    async def work(self) -> None:
        """Ask for one video after the other, until `closing`; see each to its end."""
        while not self.closing:
            note = Note(f"{self._chance.choice(FAULTS)} video {len(self.notes)}".strip())
            self.notes.append(note)
            await self._see_to_its_end(note, image=self._chance.random() < 0.3)
            if note.ended == "completed" and self._chance.random() < 0.2:
                await self._delete(note)

    async def fetch(self, note: Note) -> str:
        """The SHA-256 of a completed video, once its content comes whole."""
        while True:
            answer = await self._ask("GET", f"/{note.id}/content")
            if answer.status_code == 200:
                return hashlib.sha256(answer.content).hexdigest()
            assert answer.json()["error"]["code"] == "content_not_ready", answer.text
            await asyncio.sleep(0.05)

    async def look(self, note: Note) -> httpx.Response:
        return await self._ask("GET", f"/{note.id}")

    async def close(self) -> None:
        await self._http.aclose()

    async def _see_to_its_end(self, note: Note, image: bool) -> None:
        form: dict[str, tuple[str | None, bytes]] = {"prompt": (None, note.prompt.encode())}
        if image:
            form["input_reference"] = ("input.png", self._picture())
        key = {"idempotency-key": hashlib.sha256(note.prompt.encode()).hexdigest()}
        answer = await self._ask("POST", "", files=form, headers=key)
        assert answer.status_code == 200, answer.text
        note.id = answer.json()["id"]
        if self._chance.random() < 0.1:
            await asyncio.sleep(self._chance.random() * 0.3)
            await self._delete(note)
            return
        while (video := (await self.look(note)).json())["status"] not in FINAL:
            await asyncio.sleep(0.05)
        if video["status"] == "completed":
            note.sha256 = await self.fetch(note)
        note.ended = "completed" if note.sha256 else video["error"]["code"]

    async def _delete(self, note: Note) -> None:
        note.ended = "deleted"  # from now on nobody else asks for it
        answer = await self._ask("DELETE", f"/{note.id}")
        assert answer.status_code in (200, 404), answer.text  # 404: an answer was lost

    async def _ask(self, method: str, path: str, **how: object) -> httpx.Response:
        """An answer: asked again as long as there is no gateway, or one that is stopping."""
        while True:
            try:
                answer = await self._http.request(method, self._url + path, **how)  # type: ignore[arg-type]
            except httpx.TransportError:
                await asyncio.sleep(0.03)
                continue
            if answer.status_code < 500:
                return answer
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.03)

    def _picture(self) -> bytes:
        """An input image that no other job has."""
        file = io.BytesIO()
        Image.frombytes("RGB", (16, 9), self._chance.randbytes(16 * 9 * 3)).save(file, "PNG")
        return file.getvalue()


FAULTS = [*[""] * 12, "sandbox:policy", "sandbox:late", "sandbox:cut", "sandbox:cut"]
