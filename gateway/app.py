"""The composition root: every part is built here once, in order, and here stands the one list of
routes.

Start reading here, then `policy/dispatch.py`. A job's way: `api/videos.py` -> `ledger` ->
`engine/dispatcher.py` -> `engine/calls.py` -> `upstream/client.py` -> `content/videos.py` ->
`ledger` -> `api/files.py`.
"""

import asyncio
import fcntl
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.auth import Auth
from gateway.api.errors import HANDLERS
from gateway.api.estimates import Estimates
from gateway.api.files import Files
from gateway.api.guard import Guard
from gateway.api.health import Health
from gateway.api.limits import Bounds
from gateway.api.openapi import describe
from gateway.api.proxies import behind_proxies
from gateway.api.uploads import Uploads, most_body
from gateway.api.videos import Videos
from gateway.api.wire import Wire, json_response
from gateway.clock import Boot, Clock
from gateway.config import AccountSettings, Settings
from gateway.content.disk import Disk
from gateway.content.inputs import InputStore
from gateway.content.videos import VideoStore
from gateway.engine.calls import Calls
from gateway.engine.dispatcher import Dispatcher
from gateway.engine.feeding import Feeding
from gateway.engine.janitor import Janitor
from gateway.engine.recovery import recover
from gateway.engine.watch import Watch
from gateway.errors import LedgerBroken, LedgerFull, RequestError, StartError
from gateway.failpoint import reach
from gateway.job import Caller, Kind
from gateway.ledger.callers import add_caller
from gateway.ledger.knock import Door
from gateway.ledger.ledger import Ledger
from gateway.ledger.mounts import refuse_network
from gateway.ledger.transitions import Change
from gateway.metrics import Metrics
from gateway.policy.dispatch import Rules
from gateway.policy.polling import PollingRule
from gateway.policy.window import WindowRule
from gateway.upstream.client import Upstream
from gateway.upstream.dialects import DIALECTS

log = structlog.get_logger()

EVERYBODY = "everybody"
"""The name of the caller of open mode."""


class Gateway:
    """A gateway on one data folder. `app` serves it while its `life` lasts; `stop_calls` ends its
    calls upstream.

    `keys`: the upstream keys by account. `on_fatal` is called, by any thread, when the process must
    not go on. `make_...`: what the simulation replaces. Raises StartError.
    """

    def __init__(
        self,
        settings: Settings,
        keys: dict[str, str],
        boot: Boot,
        on_fatal: Callable[[BaseException], None],
        *,
        make_clock: Callable[[float], Clock] = Clock,
        make_disk: Callable[[Callable[[OSError], None]], Disk] = Disk,
        make_door: Callable[[Path], Door] = Door.open,
        make_upstream: Callable[..., Upstream] = Upstream,
    ) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self._grace_ends = math.inf
        self._loops: list[asyncio.Task[None]] = []
        self._housekeeping: list[asyncio.Task[None]] = []
        data = settings.server.data_dir
        self._lock = _lead(data)

        rules = {account.name: _rules(account, settings) for account in settings.accounts}
        models = {account.name: settings.models_of(account) for account in settings.accounts}
        returns = {name: rule.window.lasts for name, rule in rules.items()}
        upstreams = {account.name: account.base_url for account in settings.accounts}

        try:
            served = frozenset[str]().union(*models.values())
            self.ledger = ledger = Ledger.open(data, boot, returns, served, upstreams)
        except StartError:
            self._lock.close()
            raise
        self.clock = clock = make_clock(ledger.offset)
        content = settings.content
        disk = make_disk(self._disk_broken)
        self._videos = videos = VideoStore(
            data, boot.id, content.max_bytes, content.video_bytes, disk
        )
        self._inputs = inputs = InputStore(data, content.input_bytes, disk)

        self._upstreams = {
            account.name: make_upstream(account, keys[account.name], settings.timeouts, clock.wall)
            for account in settings.accounts
        }
        self._calls = {
            name: Calls(
                upstream, ledger, videos, inputs, clock, rules[name].polling, content.upstream_ttl
            )
            for name, upstream in self._upstreams.items()
        }
        ledger.on_commit(self._give_up_unwanted)
        self._feeding = feeding = Feeding(ledger.live, clock, videos.has_room)
        ledger.on_commit(feeding.on_commit)
        self._dispatchers = [
            Dispatcher(
                name, rules[name], models[name], ledger, calls, clock, videos.has_room, feeding
            )
            for name, calls in self._calls.items()
        ]
        self._janitor = Janitor(ledger, videos, inputs, clock, content, max(returns.values()))
        wakers = [dispatcher.wake for dispatcher in self._dispatchers]
        self._watch = Watch(ledger, clock, make_door(data), wakers)

        def room() -> bool:
            return videos.has_room(ledger.live.unfinished() + 1)

        metrics = Metrics(ledger.live, clock, rules, room)
        ledger.listen(metrics.on_event)

        self.estimates = Estimates(
            ledger.live, clock, rules, models, lambda: [each.view() for each in self._dispatchers]
        )
        ledger.on_commit(self.estimates.forget)

        open_mode = settings.auth.mode == "open"
        self._everybody = Caller(f"caller_{EVERYBODY}", EVERYBODY) if open_mode else None
        bounds = Bounds(settings.limits)
        auth = Auth(ledger, bounds, self._everybody)
        wire = Wire(
            self.estimates.position,
            self.estimates.shown,
            DIALECTS[settings.accounts[0].dialect].queued,
            settings.requests.vocabulary,
            settings.server.public_url,
            content.keep_days * 86400,
        )
        uploads = Uploads(settings.requests)
        jobs = Videos(ledger, inputs, videos, auth, bounds, uploads, wire, clock)
        files = Files(jobs, videos, ledger, clock, content.upstream_ttl, rules.keys())
        health = Health(ledger, clock, rules, room, metrics.expose)
        description = json_response(describe(settings, wire.queued_word))
        metrics_route = Route("/metrics", health.metrics, methods=["GET"])
        most = most_body(settings.requests)
        app = Starlette(
            routes=[
                Route("/v1/videos/characters", _not_offered, methods=["GET", "POST"]),
                Route("/v1/videos/characters/{id}", _not_offered, methods=["GET"]),
                Route("/v1/videos/edits", _not_offered, methods=["POST"]),
                Route("/v1/videos/extensions", _not_offered, methods=["POST"]),
                _route("/v1/videos/{id}", GET=jobs.retrieve, DELETE=jobs.delete),
                Route("/v1/videos/{id}/content", files.content, methods=["GET"]),
                Route("/v1/videos/{id}/remix", _not_offered, methods=["POST"]),
                _route("/v1/videos", POST=jobs.create, GET=jobs.list),
                Route("/openapi.json", description, methods=["GET"]),
                Route("/healthz", health.alive, methods=["GET"]),
                Route("/readyz", health.ready, methods=["GET"]),
                *([] if settings.server.metrics_port else [metrics_route]),
            ],
            exception_handlers=HANDLERS,
            max_body_size=most,
            lifespan=self.life,
        )
        app.router.redirect_slashes = False  # a redirect would follow the Host that a caller sent
        guarded = Guard(app, metrics.on_request, clock.now, most, settings.limits)
        self.app = behind_proxies(guarded, settings.server.trusted_proxies)
        self.metrics_app = Starlette(
            routes=[metrics_route],
            exception_handlers=HANDLERS,
        )

    def stop_calls(self) -> None:
        """Reserve no call from now on and cut off what can be made again. A POST under way goes on
        until the grace is over.
        """
        if self._grace_ends == math.inf:
            self._grace_ends = self.clock.now() + self._settings.server.grace
            reach("shutdown.begun")
        self._feeding.stop()
        for dispatcher in self._dispatchers:
            dispatcher.stop()

    def cut_calls(self) -> None:
        """End the grace: calls under way are cut off, whatever becomes of them."""
        for loop in self._loops:
            loop.cancel()

    @asynccontextmanager
    async def life(self, _app: object = None) -> AsyncIterator[None]:
        """From recovery to the last commit. Raises GatewayError where it can't begin."""
        try:
            await self._begin()
            yield
        finally:
            await self._end()

    async def _begin(self) -> None:
        clock = self.clock
        self.ledger.start(clock.wall, self._broken)
        try:
            if self._everybody is not None:
                await self.ledger.commit(add_caller(EVERYBODY, clock.wall()))
            await recover(self.ledger, self._calls, self._videos, self._inputs, clock)
        except (OSError, LedgerFull) as error:
            data = self._settings.server.data_dir
            why = error.strerror if isinstance(error, OSError) else "it has no room for the ledger"
            raise StartError(f"the data folder {data} can't be used: {why}") from error
        self._loops = [asyncio.create_task(each.run()) for each in self._dispatchers]
        housekeeping = (self._janitor, self._watch)
        self._housekeeping = [asyncio.create_task(each.run()) for each in housekeeping]
        for loop in (*self._loops, *self._housekeeping):
            loop.add_done_callback(self._ended)
        log.info("started", data=str(self._settings.server.data_dir), accounts=[*self._calls])

    async def _end(self) -> None:
        self.stop_calls()
        for each in self._housekeeping:
            each.cancel()
        if self._loops:
            left = max(0.1, self._grace_ends - self.clock.now())
            await asyncio.wait(self._loops, timeout=left)
        self.cut_calls()
        await asyncio.gather(*self._loops, *self._housekeeping, return_exceptions=True)
        reach("shutdown.closing")
        cut = sum(len(book.open_calls()) for book in self.ledger.live.books.values())
        for upstream in self._upstreams.values():
            await upstream.close()
        self._watch.close()
        await self.ledger.close()
        self._videos.close()
        self._lock.close()
        if self._loops:
            log.info("stopped", calls_cut=cut)

    def _give_up_unwanted(self, change: Change) -> None:
        """Content that is not wanted any more is not fetched to its end."""
        for job in change.jobs:
            if job.account in self._calls and not job.wants_content:
                self._calls[job.account].give_up(job.id)

    def _ended(self, loop: asyncio.Task[None]) -> None:
        """A loop that ends with an error leaves work that nobody does: better to start again."""
        error = None if loop.cancelled() else loop.exception()
        if error is not None:
            log.critical("a loop failed", exc_info=error)
            self._on_fatal(error)

    def _disk_broken(self, error: OSError) -> None:
        log.critical("an fsync failed: what was written can't be trusted", why=error.strerror)
        self._on_fatal(error)

    def _broken(self, error: LedgerBroken) -> None:
        log.critical("the ledger can't be trusted any more", why=str(error))
        self._on_fatal(error)


def _rules(account: AccountSettings, settings: Settings) -> Rules:
    polling = settings.polling_of(account)
    return Rules(
        WindowRule(account.requests, account.period, account.guard, account.spacing),
        PollingRule(polling.interval, polling.expected, polling.max_wait, polling.task_life),
        account.concurrent,
        frozenset(map(Kind, account.counts)),
    )


def _lead(data: Path) -> IO[str]:
    """Be the one server of this folder. The lock goes with the process."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        refuse_network(data)
        lock = (data / "lock").open("a")
    except OSError as error:
        raise StartError(f"the data folder {data} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StartError(f"another server is running on the data folder {data}") from error
    return lock


def _route(path: str, **methods: Callable[[Request], Awaitable[Response]]) -> Route:
    """One path of several methods as one route: its 405 names all of them. HEAD is GET."""

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return Route(path, answer, methods=[*methods])


async def _not_offered(_request: Request) -> Response:
    message = "The upstream of this gateway does not offer this."
    raise RequestError(404, message, code="not_offered", headers={"x-should-retry": "false"})
