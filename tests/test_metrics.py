"""The figures: the names that dashboards rely on, counted from events or read from memory."""

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.clock import Clock
from gateway.job import Account, Call, CallEnded, Job, JobMoved, Kind, State
from gateway.ledger.live import Live
from gateway.ledger.transitions import Change
from gateway.metrics import Metrics
from gateway.outcome import Verdict
from gateway.policy.dispatch import Rules
from gateway.policy.polling import PollingRule
from gateway.policy.verdicts import EXPIRED_CODE
from gateway.policy.window import WindowRule

NOW = 10_000.0
MAIN, SPARE = "main", "spare"
JOB = Job(
    id="video_1",
    caller="caller_alice",
    state=State.QUEUED,
    model="sora-2",
    size="1280x720",
    seconds=10,
    prompt="a boat",
    created_at=NOW,
    accepted=NOW - 500,
    seq=1,
)

CONTRACT = {
    "video_gateway_jobs": {"state"},
    "video_gateway_queue_depth": set(),
    "video_gateway_slots_in_use": {"account"},
    "video_gateway_slots": {"account"},
    "video_gateway_window_used": {"account"},
    "video_gateway_window_limit": {"account"},
    "video_gateway_upstream_calls_total": {"account", "kind", "outcome"},
    "video_gateway_upstream_rate_limited_total": {"account"},
    "video_gateway_content_expired_total": {"account"},
    "video_gateway_account_paused": {"account"},
    "video_gateway_submits_held": {"account"},
    "video_gateway_account_opens_seconds": {"account"},
    "video_gateway_slots_of_unknown": {"account"},
    "video_gateway_queue_wait_seconds_bucket": {"le"},
    "video_gateway_generation_seconds_bucket": {"le"},
    "video_gateway_download_seconds_bucket": {"le"},
    "video_gateway_content_bytes_bucket": {"le"},
    "video_gateway_http_requests_total": {"method", "route", "status"},
    "video_gateway_http_request_duration_seconds_bucket": {"route", "le"},
}
"""Names of samples, each with its labels."""


class HandClock(Clock):
    """Stands still until it is moved."""

    moment = NOW

    def now(self) -> float:
        return self.moment


class Figures:
    """A gateway's memory and its metrics, without the rest of it."""

    def __init__(self) -> None:
        self.live = Live({})
        self.live.load([], [], [Account(MAIN), Account(SPARE)], {})
        self.clock = HandClock()
        window, polling = WindowRule(10, 60.0, 1.0), PollingRule(30.0, 240.0, 600.0, 3600.0)
        rules = {
            MAIN: Rules(window, polling, concurrent=5),
            SPARE: Rules(window, polling, concurrent=2, counts=frozenset({Kind.SUBMIT})),
        }
        self.metrics = Metrics(self.live, self.clock, rules, lambda: True)

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Everything that a scrape gives of ours."""
        body, content_type = self.metrics.expose()
        assert content_type.startswith("text/plain")
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name.startswith("video_gateway_")
        ]

    def value(self, name: str, **labels: str) -> float:
        wanted = (f"video_gateway_{name}", labels)
        (found,) = [value for *key, value in self.samples() if tuple(key) == wanted]
        return found

    def moves(self, job: Job, to: State, **changes: object) -> Job:
        """A job moves on: memory shows it, and listeners hear of it."""
        moved = replace(job, state=to, **changes)
        event = JobMoved(job.state, moved)
        self.live.apply(Change(jobs=(moved,), events=(event,)))
        self.metrics.on_event(event)
        return moved

    def accept(self) -> None:
        event = JobMoved(None, JOB)
        self.live.apply(Change(jobs=(JOB,), events=(event,)))
        self.metrics.on_event(event)


@pytest.fixture
def figures() -> Figures:
    return Figures()


def a_call(number: int, kind: Kind, account: str = MAIN, ended: float | None = None) -> Call:
    return Call(number, account, kind, None, NOW - 5, ended)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_the_contract_holds(figures: Figures, name: str) -> None:
    figures.metrics.on_event(CallEnded(replace(a_call(1, Kind.POLL), outcome="observed")))
    figures.metrics.on_request("GET", "/v1/videos/{id}", 200, 0.01)
    found = [set(labels) for sample, labels, _ in figures.samples() if sample == name]
    assert found
    assert all(labels == CONTRACT[name] for labels in found)


def test_every_state_and_account_has_its_line_from_the_start(figures: Figures) -> None:
    assert {state: figures.value("jobs", state=state) for state in State} == dict.fromkeys(State, 0)
    for account in (MAIN, SPARE):
        assert figures.value("slots_in_use", account=account) == 0
        assert figures.value("window_limit", account=account) == 10
        assert figures.value("upstream_rate_limited_total", account=account) == 0
    assert figures.value("slots", account=SPARE) == 2


def test_gauges_are_read_when_asked_for(figures: Figures) -> None:
    figures.accept()
    assert figures.value("jobs", state="queued") == figures.value("queue_depth") == 1
    job = figures.moves(JOB, State.SUBMITTING, account=MAIN, submitted=NOW)
    assert figures.value("queue_depth") == 0
    assert figures.value("jobs", state="submitting") == 1
    assert figures.value("slots_in_use", account=MAIN) == 1
    unknown = replace(a_call(1, Kind.SUBMIT, ended=NOW), slot_until=NOW + 600)
    figures.live.apply(Change(calls=(unknown,)))
    figures.moves(job, State.FAILED)
    assert figures.value("slots_in_use", account=MAIN) == 1  # nobody can tell
    figures.clock.moment = NOW + 600
    assert figures.value("slots_in_use", account=MAIN) == 0
    assert figures.value("jobs", state="failed") == 1


def test_how_an_account_fares_is_shown(figures: Figures) -> None:
    def values() -> list[float]:
        names = ("account_paused", "submits_held", "account_opens_seconds", "slots_of_unknown")
        return [figures.value(name, account=MAIN) for name in names]

    assert values() == [0, 0, 0, 0]
    ill = Account(MAIN, opens=NOW + 30, doubt="why", paused=True)
    ghost = replace(a_call(1, Kind.SUBMIT, ended=NOW), slot_until=NOW + 60)
    figures.live.apply(Change(accounts=(ill,), calls=(ghost,)))
    assert values() == [1, 1, 30, 1]
    figures.clock.moment = NOW + 60
    assert values() == [1, 1, 0, 0]


def test_places_of_the_window_return_with_time(figures: Figures) -> None:
    calls = (a_call(1, Kind.POLL, ended=NOW - 50), a_call(2, Kind.SUBMIT))
    figures.live.apply(Change(calls=calls))
    assert figures.value("window_used", account=MAIN) == 2
    figures.clock.moment = NOW + 11
    assert figures.value("window_used", account=MAIN) == 1


def test_calls_that_do_not_count_take_no_place(figures: Figures) -> None:
    calls = (a_call(1, Kind.POLL, SPARE), a_call(2, Kind.SUBMIT, SPARE))
    figures.live.apply(Change(calls=calls))
    assert figures.value("window_used", account=SPARE) == 1


def test_overdue_videos_are_shown(figures: Figures) -> None:
    figures.live.apply(
        Change(jobs=(replace(JOB, state=State.RUNNING, account=MAIN, submitted=NOW),))
    )
    figures.clock.moment = NOW + 600
    assert figures.value("overdue", account=MAIN) == 0
    figures.clock.moment = NOW + 601
    assert figures.value("overdue", account=MAIN) == 1


def test_calls_are_counted_as_they_end(figures: Figures) -> None:
    for outcome in ("observed", "observed", "rate_limited"):
        call = replace(a_call(1, Kind.POLL), ended=NOW, outcome=outcome)
        figures.metrics.on_event(CallEnded(call))
    total = {"account": MAIN, "kind": "poll"}
    assert figures.value("upstream_calls_total", **total, outcome="observed") == 2
    assert figures.value("upstream_calls_total", **total, outcome="rate_limited") == 1
    assert figures.value("upstream_rate_limited_total", account=MAIN) == 1
    assert figures.value("upstream_rate_limited_total", account=SPARE) == 0


def test_the_way_of_a_video_is_measured(figures: Figures) -> None:
    figures.accept()
    job = figures.moves(JOB, State.SUBMITTING, account=MAIN, submitted=NOW - 400)
    job = figures.moves(job, State.RUNNING)
    job = figures.moves(job, State.FETCHING, finished=NOW - 20)
    figures.moves(job, State.COMPLETED, content_bytes=3_000_000)
    sums = {"queue_wait_seconds": 100, "generation_seconds": 380, "download_seconds": 20}
    for name, seconds in (sums | {"content_bytes": 3_000_000}).items():
        assert figures.value(f"{name}_sum") == seconds
        assert figures.value(f"{name}_count") == 1


def test_only_content_that_expired_is_counted_as_expired(figures: Figures) -> None:
    job = replace(JOB, state=State.FETCHING, account=MAIN)
    figures.moves(job, State.FAILED, error_code="deleted")
    figures.moves(replace(job, state=State.RUNNING), State.FAILED, error_code=EXPIRED_CODE)
    assert figures.value("content_expired_total", account=MAIN) == 0
    figures.moves(job, State.FAILED, error_code=EXPIRED_CODE)
    assert figures.value("content_expired_total", account=MAIN) == 1
    assert figures.value("content_expired_total", account=SPARE) == 0


def test_what_goes_back_to_the_queue_or_fails_is_no_video_made(figures: Figures) -> None:
    figures.accept()
    job = figures.moves(JOB, State.SUBMITTING, account=MAIN, submitted=NOW)
    figures.moves(figures.moves(job, State.RUNNING), State.FAILED)
    assert figures.value("generation_seconds_count") == 0
    assert figures.value("content_bytes_count") == 0


def test_labels_are_bounded_and_tell_of_nobody(figures: Figures) -> None:
    """A caller may send any method; its name, its ids and its prompt are never a label."""
    figures.accept()
    for number in range(100):
        figures.metrics.on_request(f"M{number}", "/v1/videos/{id}", 405, 0.1)
    for verdict in Verdict:
        call = replace(a_call(1, Kind.POLL), job_id=JOB.id, outcome=verdict)
        figures.metrics.on_event(CallEnded(call))
    samples = figures.samples()
    methods = {labels["method"] for _, labels, _ in samples if "method" in labels}
    assert methods == {"other"}
    text = figures.metrics.expose()[0].decode()
    assert not any(word in text for word in (JOB.id, JOB.caller, "alice", JOB.prompt))


def test_two_gateways_in_one_process_count_apart(figures: Figures) -> None:
    other = Figures()
    other.metrics.on_event(CallEnded(replace(a_call(1, Kind.POLL), outcome="rate_limited")))
    assert figures.value("upstream_rate_limited_total", account=MAIN) == 0
