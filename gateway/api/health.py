"""`/healthz`, `/readyz`, `/metrics`: for machines that watch this one. None needs a key, none tells
a secret.
"""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.wire import json_response
from gateway.clock import Clock
from gateway.errors import LedgerError
from gateway.ledger.ledger import Ledger
from gateway.ledger.live import AccountBook
from gateway.ledger.restart import seen
from gateway.policy.dispatch import Rules, why_no_submit


class Health:
    """`expose` renders the metrics: body and content type. `rules`: by account. `room`: whether
    there is some for one video more.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        rules: Mapping[str, Rules],
        room: Callable[[], bool],
        expose: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._room = room
        self._clock = clock
        self._expose = expose

    async def alive(self, _request: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """503 only when a job can't be accepted and committed; trouble of an account is told with
        200.
        """
        self._ledger.catch_up()
        try:
            await self._ledger.commit(seen(self._ledger.boot, self._clock.now()))
        except LedgerError as error:
            return json_response({"ready": False, "why": str(error)}, 503)
        now = self._clock.now()
        books = self._ledger.live.books
        room = self._room()
        accounts = [_account(books[name], rule, now, room) for name, rule in self._rules.items()]
        return json_response({"ready": True, "accounts": accounts})

    async def metrics(self, _request: Request) -> Response:
        body, content_type = self._expose()
        return Response(body, media_type=content_type)


def _account(book: AccountBook, rules: Rules, now: float, room: bool) -> dict[str, object]:
    account = book.account
    submits = max(account.opens, account.submits)
    return {
        "name": account.name,
        "ok": account.trouble is None,
        "trouble": account.trouble,
        "submits_wait_for": why_no_submit(account, book.to_fetch(), rules.concurrent, room),
        "paused": account.paused,
        "videos_overdue": book.overdue(now, rules.polling.max_wait),
        "videos_to_fetch_again": book.to_fetch_again(),
        "slots_of_unknown": book.slots_of_unknown(now),
        "opens_in_seconds": round(max(0.0, account.opens - now), 1),
        "submits_in_seconds": round(max(0.0, submits - now), 1),
    }
