"""Callers: what each wished for, what it was told, and what does not fit together.

A caller outlives the gateway's process: its wishes are kept in the world, and taken up in each
life.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stage import picture

FINAL = ("completed", "failed")

PICTURE = picture()
"""The input image of those that have one."""

_AS_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


def is_pictured(prompt: str) -> bool:
    """Whether a wish comes with an input image."""
    return prompt.startswith("pictured ")


@dataclass
class Wish:
    """One video that somebody wants. `prompt` is nobody else's."""

    number: int
    prompt: str
    at: float
    """When it is asked for, in the world's seconds."""
    repeats: bool
    """Whether a request without an answer is made again, with its Idempotency-Key."""
    model: str = "sora-2"
    resubmit: bool = False
    delete_after: float | None = None
    """Seconds after it was accepted; None: it is not deleted."""
    asked: bool = False
    accepted: float | None = None
    id: str | None = None
    status: str = ""
    code: str = ""
    over_at: float | None = None
    sha256: str | None = None
    deleting: float | None = None
    deleted: float | None = None
    """When the deletion was answered."""
    stands_in_for: "Wish | None" = None
    """The failed one whose place it takes, by an operator's hand, from `at` on."""
    adopted: tuple[str, str] | None = None
    """The account and the task that it was made of."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        if self.deleting is not None or (self.asked and not self.repeats and self.id is None):
            return True
        return self.status in FINAL and (self.status == "failed" or self.sha256 is not None)


@dataclass
class Callers:
    """`now`: the world's seconds. `broken` collects what a caller was told that can't be."""

    chance: Random
    now: Callable[[], float]
    wishes: list[Wish]
    key: str
    broken: list[str] = field(default_factory=list)
    told: Any = field(default_factory=hashlib.sha256)
    """A digest of all that they were told: the same for the same seed."""

    def live(self, app: Any) -> Iterator[Awaitable[None]]:
        """What each caller does while this gateway lives."""
        for wish in self.wishes:
            if not wish.is_over or (wish.status == "completed" and wish.deleting is None):
                yield self.pursue(app, wish)

    async def check(self, app: Any) -> None:
        """At the very end: all that was promised still holds."""
        for wish in self.wishes:
            if wish.id is not None and wish.deleting is None:
                await self._look(app, wish)
                if wish.status == "completed":
                    await self._download(app, wish)

    async def pursue(self, app: Any, wish: Wish) -> None:
        """What the caller of one wish does while this gateway lives."""
        await asyncio.sleep(max(0.0, wish.at - self.now()))
        while wish.id is None:
            if wish.asked and not wish.repeats:
                return
            await self._ask_for(app, wish)
        if wish.delete_after is not None:
            leaves = asyncio.create_task(self._delete_later(app, wish))
        else:
            leaves = None
        while wish.deleting is None:
            await self._look(app, wish)
            if wish.status == "completed" and wish.deleting is None:
                await self._download(app, wish)
            over = wish.status in FINAL
            await asyncio.sleep(self.chance.uniform(20, 8000 if over else 600))
        if leaves is not None:
            await leaves

    async def _ask_for(self, app: Any, wish: Wish) -> None:
        wish.asked = True
        form: dict[str, Any] = {"prompt": wish.prompt, "model": wish.model, "seconds": "10"}
        if is_pictured(wish.prompt):
            form["input_reference"] = {"image_url": _AS_URL}
        if wish.resubmit:
            form["on_unknown"] = "resubmit"
        headers = {"content-type": "application/json"}
        if wish.repeats:
            headers["idempotency-key"] = f"wish-{wish.number}"
        status, body = await self._call(app, "POST", "/v1/videos", headers, json.dumps(form))
        if status == 200:
            wish.id, wish.accepted = json.loads(body)["id"], self.now()
        elif status in (429, 503):
            wish.asked = False
            await asyncio.sleep(60)
        else:
            self.broken.append(f"{wish.prompt}: refused with {status} {body!r}")
            wish.repeats = False

    async def _look(self, app: Any, wish: Wish) -> None:
        status, body = await self._call(app, "GET", f"/v1/videos/{wish.id}")
        if wish.deleting is not None:
            return
        if status != 200:
            self.broken.append(f"{wish.prompt}: accepted as {wish.id}, and then {status} {body!r}")
            return
        video = json.loads(body)
        before, wish.status = wish.status, video["status"]
        if before in FINAL and wish.status != before:
            self.broken.append(f"{wish.prompt}: {before}, and then {wish.status}")
        if wish.status in FINAL and wish.over_at is None:
            wish.over_at = self.now()
        wish.code = (video.get("error") or {}).get("code", "")

    async def _download(self, app: Any, wish: Wish) -> None:
        status, body = await self._call(app, "GET", f"/v1/videos/{wish.id}/content")
        if wish.deleting is not None:
            return
        if status == 410 and wish.sha256 is not None:
            return  # what was fetched may go when the disk is full
        if status != 200:
            self.broken.append(f"{wish.prompt}: completed, and its content is {status} {body!r}")
            return
        sha256 = hashlib.sha256(body).hexdigest()
        if wish.sha256 not in (None, sha256):
            self.broken.append(f"{wish.prompt}: its content changed")
        wish.sha256 = sha256

    async def _delete_later(self, app: Any, wish: Wish) -> None:
        assert wish.accepted is not None
        assert wish.delete_after is not None
        await asyncio.sleep(max(0.0, wish.accepted + wish.delete_after - self.now()))
        wish.deleting = self.now()
        while True:
            status, body = await self._call(app, "DELETE", f"/v1/videos/{wish.id}")
            if status != 503:
                break
            await asyncio.sleep(60)
        if status != 200:
            self.broken.append(f"{wish.prompt}: deleted with {status} {body!r}")
        wish.deleted = self.now()

    async def _call(
        self,
        app: Any,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: str = "",
    ) -> tuple[int, bytes]:
        status, answer = await ask(
            app, method, path, {"authorization": f"Bearer {self.key}", **(headers or {})}, body
        )
        self.told.update(f"{self.now()} {method} {path} {status}".encode() + answer)
        if status >= 500 and status != 503:
            self.broken.append(f"{method} {path}: {status} {answer!r}")
        return status, answer


async def ask(
    app: Any, method: str, path: str, headers: dict[str, str], body: str
) -> tuple[int, bytes]:
    """One request to an ASGI application: the status and the whole body."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"host", b"gateway.test"), (b"content-length", str(len(body.encode())).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("gateway.test", 80),
        "state": {},
    }
    asked = [{"type": "http.request", "body": body.encode(), "more_body": False}]
    gone = asyncio.Event()
    answer: list[Any] = []

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    await app(scope, receive, send)
    return answer[0]["status"], b"".join(part.get("body", b"") for part in answer[1:])
