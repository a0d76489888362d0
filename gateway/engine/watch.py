"""Sees for the whole engine what no commit of its own tells: what other processes write into the
ledger, and that the machine slept. Tells people when an account's trouble begins, changes and ends.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context

import structlog

from gateway.clock import Clock
from gateway.job import Account, AccountChanged, Event
from gateway.ledger.knock import Door
from gateway.ledger.ledger import Ledger

log = structlog.get_logger()

EVERY = 60.0
"""Seconds between two looks at the clocks: how late it may be seen that the machine slept. Linux
tells a process nothing of that, unless it asks for a timer that Python knows from 3.13 on.
"""

LEAST = 1.0
"""Seconds that count as sleep: the clocks are read one after the other, and a busy machine may let
some time pass in between.
"""


class Watch:
    """The one place that hears a knock at `door`, and that compares the clocks. `wakers`: called
    when the machine slept, so that whoever waits for a moment looks whether it has gone by.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, door: Door, wakers: Iterable[Callable[[], None]]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._door = door
        self._wakers = tuple(wakers)
        # In a context of its own: the commit may be shown by whatever request looks first.
        ledger.listen(lambda event: Context().run(tell, event))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_the_door())
            group.create_task(self._compare_the_clocks())

    def close(self) -> None:
        """Take the door away, once `run` has ended."""
        self._door.close()

    async def _answer_the_door(self) -> None:
        while True:
            self._ledger.catch_up()  # first of all at what came before there was a door
            await self._door.knocked()

    async def _compare_the_clocks(self) -> None:
        ahead = self._clock.ahead()
        while True:
            await self._clock.sleep(EVERY)
            before, ahead = ahead, self._clock.ahead()
            if ahead - before >= LEAST:
                log.info("the machine slept", seconds=round(ahead - before))
                for wake in self._wakers:
                    wake()


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
    if now.doubt is None and now.trouble == before.trouble:
        return  # upstream answers again, but the trouble is not over
    began = before.trouble is None and before.doubt is None
    log.warning(
        "account is in trouble" if began else "account is in other trouble",
        account=now.name,
        trouble=now.trouble,
        submits_wait_for=now.doubt,
    )


def _state(account: Account) -> tuple[str | None, str | None]:
    return account.trouble, account.doubt
