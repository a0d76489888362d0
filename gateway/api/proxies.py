"""Behind a reverse proxy: believe X-Forwarded-For, -Proto and -Host, from addresses that the
settings name.

For and Proto are uvicorn's own; Host is added, since a video's `url` must be one that its caller
can reach.
"""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ForwardedHost:
    """Puts X-Forwarded-Host in the place of Host where a trusted proxy sent it."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._networks = [ip_network(address) for address in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_trusted(scope.get("client")):
            named = dict(scope["headers"]).get(b"x-forwarded-host")
            if named:
                kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
                nearest = named.rpartition(b",")[2].strip()
                scope = {**scope, "headers": [*kept, (b"host", nearest)]}
        await self._app(scope, receive, send)

    def _is_trusted(self, client: tuple[str, int] | None) -> bool:
        try:
            peer = ip_address(client[0] if client else "")
        except ValueError:  # a socket without addresses
            return False
        return any(peer in network for network in self._networks)


def behind_proxies(app: ASGIApp, trusted: Sequence[str]) -> ASGIApp:
    """The application, believing the forwarded headers of these addresses alone."""
    if not trusted:
        return app
    # Host is looked at first: uvicorn's puts the caller's address in the place of the proxy's. It
    # has types of its own for ASGI.
    return ForwardedHost(ProxyHeadersMiddleware(app, list(trusted)), trusted)  # type: ignore[arg-type]
