"""Sees what other processes write into the ledger; tells people when an account's trouble begins,
changes and ends.
"""

import structlog

from gateway.clock import Clock
from gateway.job import Account, AccountChanged, Event
from gateway.ledger.ledger import Ledger

log = structlog.get_logger()

EVERY = 1.0
"""Seconds between two looks. Callers' requests look by themselves; the engine must see what an
operator wants though nobody asks. A look is one PRAGMA of 12 microseconds: SQLite tells nobody by
itself.
"""


class Watch:
    """The one place that looks for other processes' changes when no caller does."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        ledger.listen(tell)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._ledger.catch_up()
            await self._clock.sleep(EVERY)


def tell(event: Event) -> None:
    """Log what people should know of an account."""
    if not isinstance(event, AccountChanged):
        return
    before, now = event.before, event.account
    if before.paused is not now.paused:
        log.info("account paused" if now.paused else "account resumed", account=now.name)
    if _state(before) == _state(now):
        return
    if now.trouble is None and now.doubt is None:
        log.info("account is well again", account=now.name)
        return
    began = before.trouble is None and before.doubt is None
    log.warning(
        "account is in trouble" if began else "account is in other trouble",
        account=now.name,
        trouble=now.trouble,
        submits_wait_for=now.doubt,
    )


def _state(account: Account) -> tuple[str | None, str | None]:
    return account.trouble, account.doubt
