"""`POST /v1/videos` and `GET /v1/videos/{id}`: accept a job, tell how it stands."""

from secrets import token_hex

import structlog
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import Auth
from gateway.api.errors import no_such_video
from gateway.api.uploads import Wanted, read_wanted
from gateway.api.wire import Wire, json_response
from gateway.clock import Clock
from gateway.config import Requests
from gateway.content.inputs import InputStore
from gateway.job import Caller, Job, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import accept

log = structlog.get_logger()


class Videos:
    """The endpoints of a video object. A caller reaches its own only; any other id is the same
    404.
    """

    def __init__(
        self,
        ledger: Ledger,
        inputs: InputStore,
        auth: Auth,
        wire: Wire,
        allowed: Requests,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._inputs = inputs
        self._auth = auth
        self._wire = wire
        self._allowed = allowed
        self._clock = clock

    async def create(self, request: Request) -> Response:
        """Accept a job. Answered once it is durable, its input image first."""
        caller = self._auth.caller(request)
        async with read_wanted(request, self._allowed) as wanted:
            job = await self._accept(caller, wanted)
        structlog.contextvars.bind_contextvars(job=job.id)
        log.info("job accepted")
        return json_response(self._wire.video(job, request))

    async def retrieve(self, request: Request) -> Response:
        """How a job stands. Costs upstream nothing."""
        return json_response(self._wire.video(self.own(request), request))

    def own(self, request: Request) -> Job:
        """The caller's job that the path names. Raises RequestError 401, 404."""
        caller = self._auth.caller(request)
        job = self._ledger.job(request.path_params["id"])
        if job is None or job.caller != caller.id or job.state is State.CANCELLED:
            raise no_such_video()
        structlog.contextvars.bind_contextvars(job=job.id)
        return job

    async def _accept(self, caller: Caller, wanted: Wanted) -> Job:
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
        )
        image = wanted.image
        if image is None:
            return (await self._ledger.commit(accept(job))).jobs[0]
        sha256 = await self._inputs.digest(image.file)
        with self._inputs.hold(sha256):
            await self._inputs.spool(image.file, sha256, image.size)
            job = job.with_input(sha256, image.type)
            return (await self._ledger.commit(accept(job))).jobs[0]
