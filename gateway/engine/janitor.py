"""Housekeeping, once a minute: content past its time, room for new videos, and all that has an age.

Ages run on the ledger's timeline: a clock that is set wrong must not throw a month of videos away.
"""

import structlog

from gateway.clock import Clock
from gateway.config import Content
from gateway.content.inputs import InputStore
from gateway.content.videos import VideoStore
from gateway.errors import LedgerFull, StateConflict
from gateway.failpoint import reach
from gateway.job import Job
from gateway.ledger.ledger import Ledger
from gateway.ledger.restart import seen
from gateway.ledger.transitions import KEY_SECONDS, forget, forget_events, note

log = structlog.get_logger()

EVERY = 60.0
"""Seconds between two rounds."""

DAY = 86_400.0
TRACE_SECONDS = 7 * DAY
"""How long calls upstream and lines of the outbox are kept; calls, as long as they take a place."""

INPUT_SECONDS = 3 * DAY
"""How long the input image of a failed job is kept that an operator may send anew."""

BATCH = 100
"""Videos that one round looks at for each reason: the others wait a minute."""


class Janitor:
    """Keeps a data folder within its bounds. `returns`: seconds until the last place of any account
    has returned.
    """

    def __init__(
        self,
        ledger: Ledger,
        videos: VideoStore,
        inputs: InputStore,
        clock: Clock,
        rules: Content,
        returns: float,
    ) -> None:
        self._ledger = ledger
        self._videos = videos
        self._inputs = inputs
        self._clock = clock
        self._rules = rules
        self._calls_kept = max(TRACE_SECONDS, returns)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except LedgerFull:
                log.error("the ledger is full: housekeeping waits")
            except OSError as error:
                log.error("the disk refuses: housekeeping waits", why=error.strerror)
            await self._clock.sleep(EVERY)

    async def round(self) -> None:
        """One round."""
        now, ledger, rules = self._clock.now(), self._ledger, self._rules
        ledger.catch_up()
        for job in ledger.kept_though_deleted(BATCH):
            await self._drop(job, "deleted")
        for job in ledger.kept_before(now - rules.keep_days * DAY, BATCH):
            await self._drop(job, "kept for its time")
        await self._make_room()
        await ledger.commit(
            forget(
                inputs=now - INPUT_SECONDS,
                prompts=now - rules.prompt_days * DAY,
                rows=now - rules.row_days * DAY,
                calls=now - self._calls_kept,
                repeats=now - KEY_SECONDS,
            )
        )
        await ledger.commit(seen(ledger.boot, now))
        await ledger.commit(forget_events(self._clock.wall() - TRACE_SECONDS, ledger.seen))
        self._inputs.free_unneeded(ledger.needs_input)
        await self._videos.sweep_parts(ledger.wants_content)

    async def _make_room(self) -> None:
        """Drop the oldest videos that were fetched. Never one that nobody has: submits wait."""
        coming = 1 + self._ledger.live.unfinished()
        if self._videos.has_room(coming):
            return
        for job in self._ledger.kept_and_fetched(BATCH):
            await self._drop(job, "room for new ones")
            if self._videos.has_room(coming):
                return
        log.warning("there is no room, and no video that was fetched: submits wait")

    async def _drop(self, job: Job, why: str) -> None:
        """Mark first, then delete: a crash in between leaves a file that the next start sweeps."""
        try:
            await self._ledger.commit(note(job, {"content_gone": True, "content_lost": False}))
        except StateConflict:
            return
        reach("janitor.marked")
        await self._videos.remove(job.id)
        reach("janitor.removed")
        log.info("content dropped", job=job.id, why=why)
