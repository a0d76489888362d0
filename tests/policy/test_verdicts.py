"""What becomes of a job after each call, over every verdict there is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.job import MOST_LOOKS, TRANSITIONS, Job, Kind, Look, State
from gateway.outcome import Outcome, Verdict
from gateway.policy.polling import PollingRule
from gateway.policy.verdicts import (
    LONGEST_OUTAGE,
    MISSING_POLLS,
    MOST_REQUEUES,
    UNKNOWN_SUBMIT,
    Move,
    after_download,
    after_poll,
    after_submit,
    completed,
    slot_until,
    unknown_submit,
)

RULE = PollingRule(interval=30.0, expected=240.0, max_wait=600.0, task_life=3600.0)
NOW = 10_000.0
ASKED = NOW - 2.0
WALL = 1_800_000_000.0
TTL = 3600.0

JOB = Job(
    id="video_1",
    caller="caller_a",
    state=State.RUNNING,
    model="sora-2",
    size="1280x720",
    seconds=10,
    prompt="a boat",
    created_at=WALL - 100,
    accepted=NOW - 100,
    account="main",
    upstream_id="up_1",
    submitted=NOW - 90,
)
FETCHING = replace(JOB, state=State.FETCHING, finished=NOW - 10, progress=100)

OF_THE_ACCOUNT = [Verdict.UNSENT, Verdict.RATE_LIMITED, Verdict.INTERRUPTED]
PROVEN = [
    Verdict.UNSENT,
    Verdict.CUT_OFF,
    Verdict.RATE_LIMITED,
    Verdict.DENIED,
    Verdict.UNAVAILABLE,
]
"""The verdicts on a submit that prove that it created no task, though the job may have one yet."""

FAILED_FOR_NOW = [Verdict.PASSING, Verdict.EXHAUSTED]
"""The verdicts on a poll that tell of a task that failed for a passing reason, and was not billed.
"""

outcomes = st.builds(
    Outcome,
    verdict=st.sampled_from(Verdict),
    message=st.sampled_from(["", "upstream's words"]),
    code=st.sampled_from(["", "some_code"]),
    upstream_id=st.sampled_from([None, "up_2"]),
    in_progress=st.booleans(),
    progress=st.one_of(st.none(), st.integers(0, 100)),
    sha256=st.just("ab" * 32),
    size=st.integers(1, 10**9),
    advanced=st.booleans(),
)
jobs = st.builds(
    replace,
    st.just(JOB),
    in_progress=st.booleans(),
    progress=st.integers(0, 100),
    misses=st.integers(0, 5),
    requeues=st.integers(0, 4),
    resends=st.integers(0, 1),
    submitted=st.floats(NOW - 5000, NOW),
    finished=st.floats(NOW - 5000, NOW),
)


def move(state: State, job: Job, outcome: Outcome, verdict: Verdict) -> Move:
    """The move from a state that a call belongs to, after a call with this verdict."""
    outcome = replace(outcome, verdict=verdict)
    match state:
        case State.SUBMITTING:
            return after_submit(job, outcome, NOW)
        case State.RUNNING:
            return after_poll(job, outcome, ASKED, NOW, RULE)
        case _:
            return after_download(job, outcome, NOW, WALL, TTL)


def every_call(test: Any) -> Any:
    """Runs a test with every state that a call belongs to and every verdict, and any values."""
    test = settings(max_examples=20)(given(job=jobs, outcome=outcomes)(test))
    test = pytest.mark.parametrize("verdict", list(Verdict))(test)
    return pytest.mark.parametrize("state", [State.SUBMITTING, State.RUNNING, State.FETCHING])(test)


@every_call
def test_every_verdict_leads_where_the_table_of_states_allows(
    state: State, verdict: Verdict, job: Job, outcome: Outcome
) -> None:
    step = move(state, job, outcome, verdict)
    assert step.to in TRANSITIONS[state]
    replace(job, state=step.to, **step.changes)  # every change is a field of a job


@every_call
def test_only_what_proves_that_no_task_exists_sends_a_job_back(
    state: State, verdict: Verdict, job: Job, outcome: Outcome
) -> None:
    if move(state, job, outcome, verdict).to is not State.QUEUED:
        return
    if state is State.SUBMITTING:
        assert verdict in PROVEN or job.resends
    else:
        assert state is State.RUNNING
        assert verdict in FAILED_FOR_NOW
        assert job.requeues < MOST_REQUEUES


@every_call
def test_progress_never_falls_and_stays_a_percentage(
    state: State, verdict: Verdict, job: Job, outcome: Outcome
) -> None:
    step = move(state, job, outcome, verdict)
    if step.to is State.QUEUED:
        assert step.changes.get("progress", job.progress) in (0, job.progress)  # made anew
    elif state is not State.SUBMITTING:
        assert job.progress <= step.changes.get("progress", job.progress) <= 100


@every_call
def test_what_has_begun_does_not_go_back_to_waiting(
    state: State, verdict: Verdict, job: Job, outcome: Outcome
) -> None:
    step = move(state, job, outcome, verdict)
    if state is not State.SUBMITTING and step.to is not State.QUEUED:
        assert step.changes.get("in_progress", job.in_progress) >= job.in_progress


@every_call
def test_a_failure_always_has_a_code_and_words(
    state: State, verdict: Verdict, job: Job, outcome: Outcome
) -> None:
    step = move(state, job, outcome, verdict)
    failed = step.to is State.FAILED
    assert bool(step.changes.get("error_code")) == failed
    assert bool(step.changes.get("error_message")) == failed


# A submit


@pytest.mark.parametrize("verdict", PROVEN)
def test_a_submit_proven_refused_or_unsent_goes_back_to_the_queue(verdict: Verdict) -> None:
    step = after_submit(JOB, Outcome(verdict), NOW)
    assert step == Move(State.QUEUED, {"account": None, "submitted": None})


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {*PROVEN, "accepted", "rejected"}))
def test_a_submit_that_proves_nothing_is_never_sent_again(verdict: Verdict) -> None:
    step = after_submit(JOB, Outcome(verdict, "anything"), NOW)
    assert step == unknown_submit(JOB)
    assert step.to is State.FAILED
    assert step.changes == {
        "error_code": "submission_outcome_unknown",
        "error_message": UNKNOWN_SUBMIT,
    }


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {*PROVEN, "accepted", "rejected"}))
def test_a_caller_may_ask_for_one_more_submit_and_no_more(verdict: Verdict) -> None:
    asked = replace(JOB, resends=1)
    step = after_submit(asked, Outcome(verdict), NOW)
    assert step == Move(State.QUEUED, {"account": None, "submitted": None, "resends": 0})
    again = replace(asked, **step.changes)
    assert after_submit(again, Outcome(verdict), NOW) == unknown_submit(JOB)


@pytest.mark.parametrize("verdict", PROVEN)
def test_a_submit_proven_refused_is_not_counted_as_the_one_more(verdict: Verdict) -> None:
    assert "resends" not in after_submit(replace(JOB, resends=1), Outcome(verdict), NOW).changes


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_an_unknown_submit_keeps_a_slot_of_its_own(kind: Kind, verdict: Verdict) -> None:
    unknown = (kind, verdict) == (Kind.SUBMIT, Verdict.UNKNOWN)
    wanted = NOW + RULE.max_wait if unknown else None
    assert slot_until(kind, Outcome(verdict), NOW, RULE) == wanted


def test_the_words_of_an_unknown_submit_tell_what_a_second_one_may_cost() -> None:
    assert "billed a second time" in UNKNOWN_SUBMIT


def test_an_accepted_submit_runs_under_upstreams_id() -> None:
    step = after_submit(JOB, Outcome(Verdict.ACCEPTED, upstream_id="up_9", progress=3), NOW)
    changes = {"upstream_id": "up_9", "in_progress": False, "progress": 3, "submitted": NOW - 45}
    assert step == Move(State.RUNNING, changes)


def test_a_rejected_submit_ends_in_upstreams_own_words() -> None:
    step = after_submit(JOB, Outcome(Verdict.REJECTED, "No swords.", "moderation"), NOW)
    assert step == Move(State.FAILED, {"error_code": "moderation", "error_message": "No swords."})


# A poll


def test_a_finished_video_is_fetched() -> None:
    step = after_poll(replace(JOB, misses=2), Outcome(Verdict.FINISHED), ASKED, NOW, RULE)
    assert step.to is State.FETCHING
    assert step.changes == {
        "polled": NOW,
        "finished": NOW,
        "in_progress": True,
        "progress": 100,
        "misses": 0,
        "looks": (Look(89.0, 100),),
    }


@pytest.mark.parametrize("told", [None, 0, 40])
def test_what_a_poll_found_is_kept_with_the_moment_at_which_upstream_looked(
    told: int | None,
) -> None:
    """Half-way through the call; as it was told, though the progress shown never falls."""
    step = after_poll(
        replace(JOB, progress=50), Outcome(Verdict.OBSERVED, progress=told), ASKED, NOW, RULE
    )
    assert step.changes["looks"] == (Look(89.0, told),)
    assert step.changes["progress"] == 50


def test_only_the_latest_looks_are_kept() -> None:
    job = JOB
    for told in range(MOST_LOOKS + 3):
        step = after_poll(job, Outcome(Verdict.OBSERVED, progress=told), ASKED, NOW, RULE)
        job = replace(job, **step.changes)
    assert [look.progress for look in job.looks] == list(range(3, MOST_LOOKS + 3))


@pytest.mark.parametrize("verdict", sorted({*Verdict} - {Verdict.OBSERVED, Verdict.FINISHED}))
def test_a_poll_that_found_nothing_is_no_look(verdict: Verdict) -> None:
    assert not after_poll(JOB, Outcome(verdict), ASKED, NOW, RULE).changes.get("looks")


def test_a_failed_video_ends_in_upstreams_own_words() -> None:
    step = after_poll(JOB, Outcome(Verdict.FAILED, "It broke.", "internal"), ASKED, NOW, RULE)
    assert step == Move(State.FAILED, {"error_code": "internal", "error_message": "It broke."})


@pytest.mark.parametrize("verdict", FAILED_FOR_NOW)
def test_a_task_that_failed_for_a_passing_reason_waits_anew_ever_longer(verdict: Verdict) -> None:
    begun = replace(JOB, progress=50, in_progress=True, polled=NOW, misses=1)
    job, waits = replace(begun, looks=(Look(50.0, 50),)), []
    while (step := after_poll(job, Outcome(verdict, "Busy.", "busy"), ASKED, NOW, RULE)).to is not (
        State.FAILED
    ):
        assert step.to is State.QUEUED
        waits.append(step.changes["retry"] - NOW)
        queued = replace(job, **step.changes)
        sent = (queued.account, queued.upstream_id, queued.submitted, queued.polled)
        assert sent == (None, None, None, None)
        assert queued.looks == ()
        assert (queued.progress, queued.in_progress, queued.misses) == (0, False, 0)
        job = replace(job, requeues=queued.requeues)
    assert waits == [30, 60, 120]
    assert step == Move(State.FAILED, {"error_code": "busy", "error_message": "Busy."})


def test_a_missing_task_has_a_grace_and_then_is_lost() -> None:
    job, missing = JOB, Outcome(Verdict.MISSING)
    for misses in range(1, MISSING_POLLS):
        step = after_poll(job, missing, ASKED, NOW, RULE)
        assert step == Move(State.RUNNING, {"polled": NOW, "misses": misses})
        job = replace(job, **step.changes)
    assert after_poll(job, missing, ASKED, NOW, RULE).changes["error_code"] == "upstream_lost_task"


def test_a_task_that_turns_up_again_has_its_whole_grace_back() -> None:
    seen = after_poll(replace(JOB, misses=2), Outcome(Verdict.OBSERVED), ASKED, NOW, RULE)
    assert seen.changes["misses"] == 0


@pytest.mark.parametrize("verdict", OF_THE_ACCOUNT)
def test_a_poll_that_says_nothing_of_the_task_changes_nothing_of_it(verdict: Verdict) -> None:
    old = replace(JOB, submitted=NOW - 2 * RULE.task_life, misses=2)
    polled = {} if verdict is Verdict.UNSENT else {"polled": NOW}
    assert after_poll(old, Outcome(verdict), ASKED, NOW, RULE) == Move(State.RUNNING, polled)


@pytest.mark.parametrize("age", [RULE.max_wait + 1, RULE.task_life])
def test_an_overdue_task_is_still_waited_for(age: float) -> None:
    step = after_poll(
        replace(JOB, submitted=NOW - age), Outcome(Verdict.OBSERVED), ASKED, NOW, RULE
    )
    assert step.to is State.RUNNING


@pytest.mark.parametrize("verdict", [Verdict.UNAVAILABLE, Verdict.DENIED])
def test_no_task_dies_of_an_outage_but_of_one_that_lasts_a_day(verdict: Verdict) -> None:
    """Nobody has said that it is not finished."""
    told = [
        after_poll(replace(JOB, submitted=NOW - age), Outcome(verdict), ASKED, NOW, RULE).to
        for age in (RULE.task_life + LONGEST_OUTAGE, RULE.task_life + LONGEST_OUTAGE + 1)
    ]
    assert told == [State.RUNNING, State.FAILED]


def test_past_its_life_a_task_that_is_not_finished_has_failed() -> None:
    old = replace(JOB, submitted=NOW - RULE.task_life - 1)
    step = after_poll(old, Outcome(Verdict.OBSERVED), ASKED, NOW, RULE)
    assert step.changes["error_code"] == "generation_timeout"


def test_a_task_that_is_finished_past_its_life_is_still_fetched() -> None:
    old = replace(JOB, submitted=NOW - 2 * RULE.task_life)
    assert after_poll(old, Outcome(Verdict.FINISHED), ASKED, NOW, RULE).to is State.FETCHING


# A download


def test_content_that_is_here_completes_the_job() -> None:
    outcome = Outcome(Verdict.FETCHED, sha256="ab" * 32, size=123)
    step = after_download(FETCHING, outcome, NOW, WALL, TTL)
    assert step == completed(outcome, WALL)
    assert step == Move(
        State.COMPLETED,
        {
            "completed_at": WALL,
            "content_sha256": "ab" * 32,
            "content_bytes": 123,
            "progress": 100,
        },
    )


@pytest.mark.parametrize("verdict", [Verdict.ABSENT, Verdict.BROKEN, Verdict.UNAVAILABLE])
def test_a_download_that_brought_nothing_is_tried_again_ever_more_rarely(verdict: Verdict) -> None:
    job, waits = FETCHING, []
    for _ in range(9):
        step = after_download(job, Outcome(verdict), NOW, WALL, TTL)
        assert step.to is State.FETCHING
        job = replace(job, **step.changes)
        waits.append(job.retry - NOW)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_download_that_brought_some_bytes_goes_on_at_once() -> None:
    tired = replace(FETCHING, misses=8)
    step = after_download(tired, Outcome(Verdict.BROKEN, advanced=True), NOW, WALL, TTL)
    assert step.changes == {"misses": 1, "retry": NOW + 1}


@pytest.mark.parametrize("verdict", OF_THE_ACCOUNT)
def test_a_download_that_says_nothing_of_the_content_costs_it_nothing(verdict: Verdict) -> None:
    old = replace(FETCHING, finished=NOW - 2 * TTL)
    assert after_download(old, Outcome(verdict), NOW, WALL, TTL) == Move(State.FETCHING)


@pytest.mark.parametrize(
    ("verdict", "patience"),
    [
        (Verdict.ABSENT, TTL),
        (Verdict.BROKEN, TTL + LONGEST_OUTAGE),
        (Verdict.UNAVAILABLE, TTL + LONGEST_OUTAGE),
        (Verdict.DENIED, TTL + LONGEST_OUTAGE),
    ],
)
def test_content_that_upstream_no_longer_keeps_has_expired(
    verdict: Verdict, patience: float
) -> None:
    """Only upstream's own word ends it in time; an outage must last a day longer."""
    at_the_limit = replace(FETCHING, finished=NOW - patience)
    past_it = replace(FETCHING, finished=NOW - patience - 1)
    assert after_download(at_the_limit, Outcome(verdict), NOW, WALL, TTL).to is State.FETCHING
    step = after_download(past_it, Outcome(verdict, "gone"), NOW, WALL, TTL)
    assert step.changes["error_code"] == "content_expired"
    assert step.changes["error_message"].endswith("gone")


def test_content_fetched_after_all_is_kept_however_late() -> None:
    old = replace(FETCHING, finished=NOW - 9 * TTL)
    assert after_download(old, Outcome(Verdict.FETCHED), NOW, WALL, TTL).to is State.COMPLETED
