"""The three calls upstream: submit, poll, download. Each is made, judged by policy, and written
down, in that order.

A call was reserved before it comes here. However it ends, its end is committed; if the disk is
full, it is kept in memory and tried again, for an accepted task must not be forgotten.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from itertools import count
from secrets import token_hex
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.content.inputs import InputStore
from gateway.content.videos import VideoStore
from gateway.errors import LedgerFull, NotAVideo, StateConflict
from gateway.failpoint import reach
from gateway.job import Call, Job, Kind, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import settle
from gateway.outcome import Outcome, Verdict
from gateway.policy.polling import PollingRule
from gateway.policy.retry import react
from gateway.policy.verdicts import (
    Move,
    after_download,
    after_poll,
    after_refetch,
    after_submit,
    slot_until,
)
from gateway.upstream.client import Upstream

log = structlog.get_logger()

_UNPLANNED = {
    Kind.SUBMIT: Verdict.UNKNOWN,
    Kind.POLL: Verdict.UNAVAILABLE,
    Kind.DOWNLOAD: Verdict.BROKEN,
}
"""What a call came to that failed in a way that nobody planned for."""


class Calls:
    """Makes one account's calls. `ttl`: seconds that upstream is trusted to keep a finished
    video.
    """

    def __init__(
        self,
        upstream: Upstream,
        ledger: Ledger,
        videos: VideoStore,
        inputs: InputStore,
        clock: Clock,
        polling: PollingRule,
        ttl: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._videos = videos
        self._inputs = inputs
        self._clock = clock
        self._polling = polling
        self._ttl = ttl
        self._jitter = jitter
        self._stopping = False
        self._gets: dict[asyncio.Timeout, str | None] = {}
        """One for each GET under way, to cut it off, with the job that a download is of."""

    def stop(self) -> None:
        """Cut off polls and downloads: they can be made again, and what has come is kept.

        A POST goes on: cut off, nobody could tell what became of it.
        """
        self._stopping = True
        for get in self._gets:
            if not get.expired():
                get.reschedule(0.0)

    def give_up(self, job_id: str) -> None:
        """Cut off a download of this job, if there is one: its content is not wanted any more."""
        for get, of in self._gets.items():
            if of == job_id and not get.expired():
                get.reschedule(0.0)

    async def make(self, call: Call, job: Job | None) -> None:
        """Make a reserved call and commit what it came to."""
        reach(f"{call.kind}.reserved")
        try:
            outcome = await self._reach_upstream(call, job)
        except Exception as error:
            log.error("a call failed in an unplanned way", call=call.id, exc_info=error)
            outcome = Outcome(_UNPLANNED[call.kind], type(error).__name__)
        reach(f"{call.kind}.answered")
        now = self._clock.now()
        log.info(
            "call ended",
            account=call.account,
            kind=call.kind,
            job=call.job_id,
            outcome=outcome.verdict,
            why=outcome.message or None,
            seconds=round(now - call.reserved, 3),
        )
        for again in count():
            try:
                await self.settle(call, job, outcome, now)
                return
            except LedgerFull:
                if not again:  # should it never be written, an operator can adopt the task
                    log.error(
                        "the ledger is full: a call's end waits to be written",
                        call=call.id,
                        task=outcome.upstream_id,
                    )
                await self._clock.sleep(1)

    async def settle(self, call: Call, job: Job | None, outcome: Outcome, now: float) -> None:
        """Commit that a call has ended at `now`: its place, its job's next state, how its account
        fares.
        """
        try:
            await self._settle(call, job, outcome, now)
        except StateConflict:
            await self._settle_otherwise(call, job, outcome, now)
        reach(f"{call.kind}.settled")
        if call.kind is Kind.DOWNLOAD and not self._ledger.wants_content(call.job_id or ""):
            # It expired; or it was deleted, or dropped, while it was on its way.
            await self._videos.remove(call.job_id or "")
        if job is not None and job.input_sha256 is not None:
            self._inputs.free(job.input_sha256, self._ledger.needs_input)

    async def _settle_otherwise(
        self, call: Call, job: Job | None, outcome: Outcome, now: float
    ) -> None:
        """The job can't go where its call's outcome would lead it."""
        if outcome.verdict is Verdict.ACCEPTED:
            # The ledger takes an upstream's id once: two jobs must never share one task.
            repeated = Outcome(Verdict.UNKNOWN, "upstream gave an id that it gave before")
            await self._settle(call, job, repeated, now)
        else:  # its caller deleted it while its content was on the way
            await self._settle(call, None, outcome, now)

    async def _settle(self, call: Call, job: Job | None, outcome: Outcome, now: float) -> None:
        if job is not None:  # it may have changed meanwhile: its state is guarded by the ledger
            job = self._ledger.live.find(job.id) or job
        jitter = self._jitter()
        move: Move | None = None
        changes: Mapping[str, Any] = {}
        if job is not None and job.state is State.COMPLETED:  # its lost content was fetched again
            changes = after_refetch(job, outcome, now, self._ttl)
        elif job is not None:
            move = self._next(call, job, outcome, now)
            changes = move.changes
        transition = settle(
            call,
            lambda account: react(account, call.kind, outcome, now, jitter),
            job,
            move.to if move else None,
            changes,
            outcome=outcome.verdict,
            touched=outcome.touched,
            now=now,
            slot_until=slot_until(call.kind, outcome, now, self._polling),
        )
        await self._ledger.commit(transition)

    def _next(self, call: Call, job: Job, outcome: Outcome, now: float) -> Move:
        match call.kind:
            case Kind.SUBMIT:
                return after_submit(job, outcome, now)
            case Kind.POLL:
                return after_poll(job, outcome, call.reserved, now, self._polling)
            case Kind.DOWNLOAD:
                return after_download(job, outcome, now, self._clock.wall(), self._ttl)

    async def _reach_upstream(self, call: Call, job: Job | None) -> Outcome:
        if job is None:
            upstream_id = f"video_{token_hex(16)}"  # one that can't exist
            return await self._unless_stopped(self._upstream.probe(upstream_id))
        match call.kind:
            case Kind.SUBMIT:
                return await self._submit(job)
            case Kind.POLL:
                return await self._unless_stopped(self._upstream.poll(job.upstream_id or ""))
            case Kind.DOWNLOAD:
                return await self._download(job)

    async def _unless_stopped(
        self, get: Coroutine[None, None, Outcome], download_of: str | None = None
    ) -> Outcome:
        """What a GET comes to, or that it was cut off."""
        try:
            async with asyncio.timeout(None) as under_way:
                if self._stopping:
                    get.close()
                    raise TimeoutError
                self._gets[under_way] = download_of
                try:
                    return await get
                finally:
                    del self._gets[under_way]
        except TimeoutError:
            why = "the gateway is being stopped" if self._stopping else "nobody wants it any more"
            return Outcome(Verdict.INTERRUPTED, why)

    async def _submit(self, job: Job) -> Outcome:
        if job.input_sha256 is None:
            return await self._upstream.submit(job, None)
        try:
            image = self._inputs.open(job.input_sha256)
        except OSError:
            return Outcome(Verdict.REJECTED, "The input image is gone.", "input_image_lost")
        with image:
            return await self._upstream.submit(job, image)

    async def _download(self, job: Job) -> Outcome:
        try:
            part = await self._videos.begin(job.id)
            download = self._upstream.download(job.upstream_id or "", part)
            outcome = await self._unless_stopped(download, job.id)
            await part.flush()
            if outcome.verdict is not Verdict.FETCHED:
                return outcome
            stored = await self._videos.keep(part, length_known=outcome.size is not None)
        except NotAVideo as error:
            await part.restart(None)
            return Outcome(Verdict.BROKEN, str(error))
        except OSError as error:
            return Outcome(Verdict.BROKEN, f"it could not be stored: {error.strerror}")
        return Outcome(Verdict.FETCHED, sha256=stored.sha256, size=stored.size)
