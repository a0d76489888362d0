"""Figures for Prometheus: events are counted as they happen, the rest is read from memory when
asked for.

Labels are bounded: accounts, kinds and outcomes are few; a caller is never one (500 of them made a
scrape of half a megabyte).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    exposition,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.clock import Clock
from gateway.job import Account, Call, CallEnded, Event, JobMoved, State
from gateway.policy.dispatch import Rules, why_no_submit
from gateway.policy.verdicts import EXPIRED_CODE
from gateway.policy.window import Place, taken

PREFIX = "video_gateway"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_WAITS = (1, 5, 15, 30, 60, 120, 180, 240, 300, 450, 600, 900, 1800, 3600, 7200, 14400)
_DOWNLOADS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_SIZES = tuple(10**6 * size for size in (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000))


class Book(Protocol):
    """One account's part of what is under way."""

    @property
    def account(self) -> Account: ...

    @property
    def calls(self) -> Mapping[int, Call]: ...

    def slots_of_unknown(self, now: float) -> int: ...

    def slots_taken(self, now: float) -> int: ...

    def overdue(self, now: float, max_wait: float) -> int: ...

    def to_fetch(self) -> int: ...

    def to_fetch_again(self) -> int: ...


class Picture(Protocol):
    """What is under way, as far as figures need it (`ledger/live` keeps it)."""

    @property
    def counts(self) -> Mapping[State, int]: ...

    @property
    def books(self) -> Mapping[str, Book]: ...


class Metrics:
    """All figures of one gateway, in a registry of its own. `room`: whether there is some for one
    video more.
    """

    def __init__(
        self,
        live: Picture,
        clock: Clock,
        rules: Mapping[str, Rules],
        room: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Gauges(live, clock, rules, room))
        self._calls = Counter(
            f"{PREFIX}_upstream_calls",
            "Calls upstream that have ended",
            ["account", "kind", "outcome"],
            registry=self._registry,
        )
        self._limited = Counter(
            f"{PREFIX}_upstream_rate_limited",
            "Calls upstream answered with 429: somebody else uses the key, or the limits are wrong",
            ["account"],
            registry=self._registry,
        )
        self._expired = Counter(
            f"{PREFIX}_content_expired",
            "Videos that were made and could not be fetched while upstream kept them",
            ["account"],
            registry=self._registry,
        )
        for account in rules:
            self._limited.labels(account)
            self._expired.labels(account)
        self._queue_wait = self._histogram(
            "queue_wait_seconds", "From being accepted here until upstream took it", _WAITS
        )
        self._generation = self._histogram(
            "generation_seconds", "From being sent to upstream's completion being seen", _WAITS
        )
        self._download = self._histogram(
            "download_seconds",
            "From upstream's completion being seen to the content here",
            _DOWNLOADS,
        )
        self._bytes = self._histogram("content_bytes", "Size of a video", _SIZES)
        self._requests = Counter(
            f"{PREFIX}_http_requests",
            "Callers' requests answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_http_request_duration_seconds",
            "How long callers' requests took, streams to their end",
            ["route"],
            registry=self._registry,
        )

    def expose(self) -> tuple[bytes, str]:
        """The text of `/metrics` and its content type."""
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def on_event(self, event: Event) -> None:
        """Count what happened."""
        match event:
            case CallEnded(call):
                self._calls.labels(call.account, call.kind, call.outcome).inc()
                if call.outcome == "rate_limited":
                    self._limited.labels(call.account).inc()
            case JobMoved(State.SUBMITTING, job) if job.state is State.RUNNING:
                self._queue_wait.observe((job.submitted or job.accepted) - job.accepted)
            case JobMoved(State.RUNNING, job) if job.state is State.FETCHING:
                if job.finished is not None and job.submitted is not None and not job.was_adopted:
                    self._generation.observe(job.finished - job.submitted)
            case JobMoved(State.FETCHING, job) if job.state is State.COMPLETED:
                now = self._clock.now()
                self._download.observe(now - (job.finished or now))
                self._bytes.observe(job.content_bytes or 0)
            case JobMoved(State.FETCHING, job) if job.error_code == EXPIRED_CODE:
                self._expired.labels(job.account).inc()

    def on_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a caller's request."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, buckets=buckets, registry=self._registry)


class _Gauges(Collector):
    """What stands in memory now."""

    def __init__(
        self, live: Picture, clock: Clock, rules: Mapping[str, Rules], room: Callable[[], bool]
    ) -> None:
        self._live = live
        self._room = room
        self._clock = clock
        self._rules = rules

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(f"{PREFIX}_jobs", "Jobs by state", labels=["state"])
        for state, count in self._live.counts.items():
            jobs.add_metric([state.value], count)
        yield jobs
        depth = self._live.counts[State.QUEUED]
        yield GaugeMetricFamily(f"{PREFIX}_queue_depth", "Jobs that wait for their turn", depth)
        used = _by_account("slots_in_use", "Videos being generated, or that may be")
        slots = _by_account("slots", "Videos that may be generated at once")
        overdue = _by_account("overdue", "Videos that take longer than max_wait")
        again = _by_account("to_fetch_again", "Videos not here yet whose download has failed")
        places = _by_account("window_used", "Places of the window that are taken")
        limit = _by_account("window_limit", "Places of the window")
        ghosts = _by_account("slots_of_unknown", "Slots kept for submits of unknown outcome")
        paused = _by_account("account_paused", "1: an operator holds submits back")
        held = _by_account(
            "submits_held", "1: no submit until a GET is sane, videos are fetched, or there is room"
        )
        opens = _by_account("account_opens_seconds", "Until any call may be made again")
        now, room = self._clock.now(), self._room()
        for name, rule in self._rules.items():
            book = self._live.books[name]
            counted = (call for call in book.calls.values() if call.kind in rule.counts)
            taking = [Place(call.reserved, call.ended) for call in counted]
            used.add_metric([name], book.slots_taken(now))
            slots.add_metric([name], rule.concurrent)
            overdue.add_metric([name], book.overdue(now, rule.polling.max_wait))
            again.add_metric([name], book.to_fetch_again())
            places.add_metric([name], taken(rule.window, taking, now))
            limit.add_metric([name], rule.window.requests)
            ghosts.add_metric([name], book.slots_of_unknown(now))
            paused.add_metric([name], book.account.paused)
            why = why_no_submit(book.account, book.to_fetch(), rule.concurrent, room)
            held.add_metric([name], why is not None)
            opens.add_metric([name], max(0.0, book.account.opens - now))
        yield from (used, slots, overdue, again, places, limit, ghosts, paused, held, opens)


def _by_account(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["account"])
