"""`/healthz`, `/readyz`, `/metrics`: for machines that watch this one. None needs a key, none tells
a secret.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.wire import json_response
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import Change


class Health:
    """`expose` renders the metrics: body and content type. `max_wait`: seconds until overdue."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        max_wait: float,
        expose: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._ledger = ledger
        self._max_wait = max_wait
        self._clock = clock
        self._expose = expose

    async def alive(self, _request: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """503 only when a job can't be accepted and committed; trouble of an account is told with
        200.
        """
        try:
            await self._ledger.commit(lambda _conn: Change())  # a commit like any other, of nothing
        except LedgerError as error:
            return json_response({"ready": False, "why": str(error)}, 503)
        now = self._clock.now()
        accounts = [
            {
                "name": name,
                "ok": book.account.trouble is None,
                "trouble": book.account.trouble,
                "submits_wait_for": book.account.doubt,
                "videos_overdue": book.overdue(now, self._max_wait),
                "opens_in_seconds": round(max(0.0, book.account.opens - now), 1),
            }
            for name, book in self._ledger.live.books.items()
        ]
        return json_response({"ready": True, "accounts": accounts})

    async def metrics(self, _request: Request) -> Response:
        body, content_type = self._expose()
        return Response(body, media_type=content_type)
