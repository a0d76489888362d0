"""Who calls? A key, with or without `Bearer`, or in open mode anybody on this machine."""

import hmac
from typing import Protocol

import structlog
from starlette.requests import Request

from gateway.api.limits import Bounds
from gateway.config import is_loopback
from gateway.errors import RequestError
from gateway.job import Caller, Key
from gateway.keys import digest, is_key

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers that a proxy adds."""


class KeyBook(Protocol):
    """Where keys are looked up: the ledger."""

    def key(self, digest: str) -> Key | None:
        """A key by its digest, as committed now."""

    def catch_up(self) -> None:
        """See what another process wrote."""


class Auth:
    """Finds the caller of a request. `everybody`: the caller of open mode, or None."""

    def __init__(self, keys: KeyBook, bounds: Bounds, everybody: Caller | None) -> None:
        self._keys = keys
        self._bounds = bounds
        self._everybody = everybody

    async def caller(self, request: Request) -> Caller:
        """Raises RequestError 401, 403 or 429. From here on the log says who called."""
        if self._everybody is not None:
            _check_local(request)
            caller = self._everybody
            self._keys.catch_up()
        else:
            caller = await self._holder(request)
            await self._bounds.count_request(caller.id)
        structlog.contextvars.bind_contextvars(caller=caller.name)
        return caller

    async def _holder(self, request: Request) -> Caller:
        """Whose key it is."""
        given = request.headers.get("authorization", "").strip()
        scheme, _, rest = given.partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else given
        if not key:
            raise _unauthorized("You sent no API key. Send it as `Authorization: Bearer KEY`.")
        if is_key(key):
            wanted = digest(key)
            found = self._keys.key(wanted)
            if found and hmac.compare_digest(found.digest, wanted) and found.revoked_at is None:
                return found.caller
        await self._bounds.count_wrong_key(request.client.host if request.client else "")
        raise _unauthorized("This API key is not known to the gateway, or was revoked.")


def _check_local(request: Request) -> None:
    """Open mode is for programs on this machine: not for others that a proxy lets in, nor for web
    pages in its browser, which come by a name of theirs (DNS rebinding) or with their origin.
    """
    headers = request.headers
    peer = request.client.host if request.client else ""
    host = headers.get("host", "")
    name, _, port = host.rpartition(":")
    is_ours = is_loopback(peer) and is_loopback(name if port.isdecimal() else host)
    is_of_a_page = headers.get("origin", f"http://{host}").partition("://")[2] != host
    if not is_ours or is_of_a_page or any(header in headers for header in _FORWARDED):
        message = "The gateway runs in open mode, which serves programs on its own machine only."
        raise RequestError(403, message, code="open_mode_is_local")


def _unauthorized(message: str) -> RequestError:
    return RequestError(401, message, code="invalid_api_key")
