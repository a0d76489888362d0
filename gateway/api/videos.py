"""The endpoints of a video object: accept a job, tell how it stands, list, delete."""

import hashlib
import re
from collections import defaultdict
from secrets import token_hex

import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import Auth
from gateway.api.errors import no_such_video
from gateway.api.limits import Bounds
from gateway.api.uploads import RESUBMIT, Uploads, Wanted
from gateway.api.wire import Wire, json_response
from gateway.clock import Clock
from gateway.content.inputs import InputStore
from gateway.content.videos import VideoStore
from gateway.errors import QueueFull, StateConflict, bad_value
from gateway.failpoint import reach
from gateway.job import Caller, Job, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import Change, Repeat, accept, delete_job, note

log = structlog.get_logger()

PAGE = 20
MOST_IN_A_PAGE = 100

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Videos:
    """A caller reaches its own videos only; any other id is the same 404."""

    def __init__(
        self,
        ledger: Ledger,
        inputs: InputStore,
        store: VideoStore,
        auth: Auth,
        bounds: Bounds,
        uploads: Uploads,
        wire: Wire,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._inputs = inputs
        self._store = store
        self._auth = auth
        self._bounds = bounds
        self._uploads = uploads
        self._wire = wire
        self._clock = clock
        self._coming: defaultdict[str, set[str]] = defaultdict(set)
        """Jobs that are being accepted, by caller: memory does not show them yet."""
        ledger.on_commit(self._came)

    async def create(self, request: Request) -> Response:
        """Accept a job. Answered once it is durable, its input image first."""
        caller = await self._auth.caller(request)
        repeat = _repeat(request)
        async with self._uploads.read(request) as wanted:
            reach("accept.read")
            job = await self._accept(caller, wanted, repeat)
        structlog.contextvars.bind_contextvars(job=job.id)
        return self._object(job, request)

    async def retrieve(self, request: Request) -> Response:
        """How a job stands. Costs upstream nothing."""
        return self._object(await self.own(request), request)

    async def list(self, request: Request) -> Response:
        """The caller's videos, a page at a time."""
        caller = await self._auth.caller(request)
        query = request.query_params
        limit = _read_limit(query.get("limit"))
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise bad_value("order", "must be asc or desc")
        after = None
        if "after" in query:
            after = self._ledger.job(query["after"])
            if after is None or after.caller != caller.id:
                raise bad_value("after", "must be the id of one of your videos")
        jobs = self._ledger.jobs_of(caller.id, after, limit + 1, newest_first=order == "desc")
        page = [self._wire.video(job, request) for job in jobs[:limit]]
        return json_response(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": bool(page) and len(jobs) > limit,
            }
        )

    async def delete(self, request: Request) -> Response:
        """Queued: never sent. Under way: gone for the caller, paid for all the same. Else: gone."""
        job = await self.own(request)
        while True:
            try:
                (job,) = (await self._ledger.commit(delete_job(job, self._clock.wall()))).jobs
                break
            except StateConflict:  # it moved on meanwhile: delete it where it is now
                found = self._ledger.refresh(job.id)
                if found is None or not found.is_seen:
                    raise no_such_video() from None
                job = found
        if job.state is State.FAILED:  # perhaps between two downloads
            await self._store.remove(job.id)
        if job.state is State.COMPLETED:
            reach("delete.marked")
            await self._store.remove(job.id)
            reach("delete.removed")
            gone = {"content_gone": True, "content_lost": False}
            await self._ledger.commit(note(job, gone))
        if job.input_sha256 is not None:
            self._inputs.free(job.input_sha256, self._ledger.needs_input)
        log.info("job deleted", state=job.state)
        return json_response({"id": job.id, "object": "video.deleted", "deleted": True})

    async def own(self, request: Request) -> Job:
        """The caller's job that the path names. Raises RequestError 401, 404, 429."""
        caller = await self._auth.caller(request)
        job = self._ledger.job(request.path_params["id"])
        if job is None or job.caller != caller.id or not job.is_seen:
            raise no_such_video()
        structlog.contextvars.bind_contextvars(job=job.id)
        return job

    def _object(self, job: Job, request: Request) -> Response:
        video = self._wire.video(job, request)
        return json_response(video, headers=self._wire.headers(video))

    async def _accept(self, caller: Caller, wanted: Wanted, repeat: Repeat) -> Job:
        """The job, committed; or the one that the same request made before."""
        job = Job(
            id=f"video_{token_hex(16)}",
            caller=caller.id,
            state=State.QUEUED,
            model=wanted.model,
            size=wanted.size,
            seconds=wanted.seconds,
            prompt=wanted.prompt,
            created_at=self._clock.wall(),
            accepted=self._clock.now(),
            resends=1 if wanted.on_unknown == RESUBMIT else 0,
        )
        image = wanted.image
        if image is None:
            return await self._commit(job.asked_by(wanted.fingerprint(None)), repeat)
        sha256 = await self._inputs.digest(image.file)
        job = job.with_input(sha256, image.type).asked_by(wanted.fingerprint(sha256))
        with self._inputs.hold(sha256):
            await self._inputs.spool(image.file, sha256, image.size)
            reach("accept.spooled")
            accepted = await self._commit(job, repeat)
        self._inputs.free(sha256, self._ledger.needs_input)  # a repeated one needs it no more
        return accepted

    async def _commit(self, job: Job, repeat: Repeat) -> Job:
        coming = self._coming[job.caller]
        waiting = self._ledger.live.queued[job.caller] + len(coming)
        full = self._bounds.is_full(waiting)
        if not full:
            coming.add(job.id)
        try:
            change = await self._ledger.commit(accept(job, repeat, full=full))
            reach("accept.committed")
        except QueueFull:
            raise self._bounds.queue_full(waiting) from None
        finally:
            coming.discard(job.id)
        if change.found is None:
            log.info("job accepted", job=job.id)
            return change.jobs[0]
        log.info("the same request again", job=change.found.id)
        if not change.found.is_seen:
            raise no_such_video()
        return self._ledger.job(change.found.id) or change.found

    def _came(self, change: Change) -> None:
        """From now on memory counts these jobs itself."""
        for job in change.jobs:
            if job.caller in self._coming:
                self._coming[job.caller].discard(job.id)


def _repeat(request: Request) -> Repeat:
    """What the request says of being the same as an earlier one."""
    count = request.headers.get("x-stainless-retry-count", "0")
    retry = int(count) if count.isascii() and count.isdigit() and len(count) < 3 else 0
    key = request.headers.get("idempotency-key")
    if key is None:
        return Repeat(None, retry)
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise bad_value("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    return Repeat(hashlib.sha256(key.encode()).hexdigest(), retry)


def _read_limit(value: str | None) -> int:
    if value is None:
        return PAGE
    if not value.isascii() or not value.isdigit() or len(value) > 3 or int(value) > MOST_IN_A_PAGE:
        raise bad_value("limit", f"must be a whole number from 0 to {MOST_IN_A_PAGE}")
    return int(value)
