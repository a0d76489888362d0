"""The least pace of a request's body: a caller that sends too slowly is refused with 408.

Only the time that is waited for the caller counts, never what the gateway itself takes.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Receive

from gateway.config import Limits
from gateway.errors import RequestError


class Paced:
    """A `receive` that keeps to the pace: `limits.rate` bytes a second over each `limits.stall`
    seconds waited. `now`: a clock in seconds that never steps. Raises RequestError 408.
    """

    def __init__(self, receive: Receive, limits: Limits, now: Callable[[], float]) -> None:
        self._receive = receive
        self._span = limits.stall
        self._rate = limits.rate
        self._now = now
        self._whole = False
        self._begin()

    def _begin(self) -> None:
        self._left = self._span
        self._missing = self._span * self._rate

    async def __call__(self) -> Message:
        if self._whole:  # what is waited for now is the caller's hanging up
            return await self._receive()
        began = self._now()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow(self._rate) from None
        self._left = max(0.0, self._left - (self._now() - began))
        self._missing -= len(message.get("body", b""))
        if self._missing <= 0:
            self._begin()
        self._whole = not message.get("more_body", False)
        return message


def _too_slow(rate: int) -> RequestError:
    """Nothing was accepted, so SDKs may well send it again: no `x-should-retry: false`."""
    message = f"The body came more slowly than {rate} bytes a second. Nothing was accepted."
    return RequestError(408, message, code="body_too_slow", headers={"connection": "close"})
