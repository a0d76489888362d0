"""The gate every call passes: latency, the window, the key; and the record of it all.

Owns what is asked of a call before anybody looks at what it wants. A call is admitted or refused
at the moment it arrives, before its body is read. Every admitted call takes its place in the
window, whatever it is answered, a wrong key included; one answered 429 gives it back. Never looks
at a body, and never keeps a key.
"""

import hmac
import itertools
import math
import re

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.sandbox.errors import Refusal
from gateway.sandbox.record import Arrived, Ended, Kind, Violated
from gateway.sandbox.state import SandboxState

RECORD_PATH = "/_sandbox/record"
"""The one path that needs no key, is not counted and not recorded."""

_VIDEO = re.compile(r"/v1/videos/([^/]+)(/content)?")


def classify(method: str, path: str) -> tuple[Kind, str | None]:
    """What kind of call this is, and the video id in its path."""
    if method == "POST" and path == "/v1/videos":
        return "submit", None
    match = _VIDEO.fullmatch(path)
    if method != "GET" or match is None:
        return "other", None
    return ("download" if match[2] else "poll"), match[1]


class Gate:
    """ASGI middleware around the routes; tells them the number of their call in the scope."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self.app = app
        self.state = state
        self._calls = itertools.count(1)
        scheme, key = state.settings.auth_scheme, state.settings.api_key
        self._wanted = (f"{scheme} {key}" if scheme else key).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == RECORD_PATH:
            await self.app(scope, receive, send)
            return
        before, after = self.state.draw_latency()
        await self.state.clock.sleep(before)
        visit = _Visit(self.state, next(self._calls), scope, self._key_right(scope))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._pause(after, receive)
            await send(message)
            visit.saw(message)

        try:
            if visit.refusal is None:
                await self.app({**scope, "sandbox.call": visit.call}, receive, answer)
            else:
                await visit.refusal.answer()(scope, receive, answer)
        finally:
            visit.end(whole=False)

    def _key_right(self, scope: Scope) -> bool:
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, self._wanted)

    async def _pause(self, seconds: float, receive: Receive) -> None:
        """Wait before answering, but not for a caller that has gone: its call has ended."""
        if not seconds:
            return

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await self.state.clock.sleep(seconds)
            group.cancel_scope.cancel()


class _Visit:
    """One call from arrival to end: its place in the window, its two events in the record."""

    def __init__(self, state: SandboxState, call: int, scope: Scope, key_right: bool) -> None:
        self.call = call
        self._state = state
        self._arrived = state.clock.now()
        self._status: int | None = None
        self._ended = False
        kind, video_id = classify(scope["method"], scope["path"])
        state.record.add(Arrived(call, self._arrived, kind, video_id, key_right))
        self.refusal = self._admit(key_right)

    def _admit(self, key_right: bool) -> Refusal | None:
        settings, window = self._state.settings, self._state.window
        wait = window.wait(self._arrived)
        self._admitted = not wait
        if wait:
            return Refusal(
                429,
                "rate_limit_exceeded",
                f"More than {settings.requests} requests in {settings.period:g} seconds.",
                headers={"Retry-After": str(max(1, math.ceil(wait / settings.speed)))},
            )
        if settings.count == "arrival":
            window.count(self._arrived)
        if key_right:
            return None
        return Refusal(401, "invalid_api_key", "The API key is missing or wrong.")

    def saw(self, message: Message) -> None:
        """Note a message that has been sent."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end(whole=True)

    def end(self, *, whole: bool) -> None:
        """The answer was sent to its end or broke off; only the first word on it counts."""
        if self._ended:
            return
        self._ended = True
        now, window = self._state.clock.now(), self._state.window
        self._state.record.add(Ended(self.call, now, self._status, whole))
        if not self._admitted:
            return
        if self._state.settings.count == "end":
            if self._status != 429:
                taken = window.taken(now)
                if taken >= window.limit:
                    self._state.record.add(Violated(self.call, now, taken))
                window.count(now)
        elif self._status == 429:
            window.uncount(self._arrived)
