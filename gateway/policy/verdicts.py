"""What becomes of a job after a call: from its state and the call's outcome to its next state.

Owns the promise of *at most one POST not proven refused per job, unless its caller asked otherwise:
then two*. Only a verdict that proves that no task exists sends a job back to the queue; an unknown
one ends it, in words that tell the caller what sending it again may cost. A task that upstream
failed for a passing reason was not billed, so its job may be sent again, a few times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.job import MOST_LOOKS, Job, Kind, Look, State
from gateway.outcome import Outcome, Verdict
from gateway.policy.polling import PollingRule
from gateway.policy.retry import backoff

UNKNOWN_CODE = "submission_outcome_unknown"
UNKNOWN_SUBMIT = (
    "The gateway sent this video upstream and never learned whether it was accepted. It may have "
    "been generated and billed without anybody being able to fetch it. The gateway does not send "
    "it again by itself: sending it again yourself may be billed a second time."
)

EXPIRED_CODE = "content_expired"

MISSING_POLLS = 3
"""Polls in a row that must answer 404 before a task counts as lost: upstreams list a new one late.
"""

MOST_REQUEUES = 3
"""How often a job whose task failed for a passing reason goes back to the queue."""

REQUEUE_SECONDS = 30.0
"""How long such a job waits at first; twice as long each further time."""

LONGEST_OUTAGE = 86_400.0
"""Seconds past its time after which a video is given up although upstream has not said that it is
gone: providers keep one for about a day, and an outage must cost nobody a video that is there
still.
"""

RETRY_SOON, RETRY_LATE = 60.0, 600.0
"""Seconds between two downloads at most: while upstream is trusted to keep the video, and after."""

_NO_TASK = frozenset(
    {
        Verdict.UNSENT,
        Verdict.CUT_OFF,
        Verdict.RATE_LIMITED,
        Verdict.DENIED,
        Verdict.UNAVAILABLE,
    }
)
"""Verdicts on a submit that prove that it created nothing. Whatever is not here does not prove it.
"""

_OF_THE_ACCOUNT = frozenset({Verdict.UNSENT, Verdict.RATE_LIMITED, Verdict.INTERRUPTED})
"""Verdicts on a GET that tell nothing of the video. One that is denied may tell of it: a task of
another key stays denied for ever, and must end some day.
"""


@dataclass(frozen=True, slots=True)
class Move:
    """The transition that a job takes: its next state and the fields that change with it."""

    to: State
    changes: Mapping[str, Any] = field(default_factory=dict)


def after_submit(job: Job, outcome: Outcome, now: float) -> Move:
    """From `submitting`. Upstream is taken to have accepted it half-way through the call."""
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return Move(
                State.RUNNING,
                {
                    "upstream_id": outcome.upstream_id,
                    "submitted": ((job.submitted or now) + now) / 2,
                    "in_progress": outcome.in_progress,
                    "progress": outcome.progress or 0,
                },
            )
        case Verdict.REJECTED:
            return _fail(outcome.code or "rejected", outcome.message or "Upstream refused it.")
        case verdict if verdict in _NO_TASK:
            return Move(State.QUEUED, {"account": None, "submitted": None})
        case _:
            return unknown_submit(job)


def unknown_submit(job: Job) -> Move:
    """From `submitting`, when nobody can tell whether a task exists: it ends, unless its caller
    asked for a second submit then.
    """
    if job.resends > 0:
        again = {"account": None, "submitted": None, "resends": job.resends - 1}
        return Move(State.QUEUED, again)
    return _fail(UNKNOWN_CODE, UNKNOWN_SUBMIT)


def slot_until(kind: Kind, outcome: Outcome, now: float, rule: PollingRule) -> float | None:
    """Until when a call keeps a slot that belongs to no job: a submit of unknown outcome, for
    `max_wait`.
    """
    unknown = kind is Kind.SUBMIT and outcome.verdict is Verdict.UNKNOWN
    return now + rule.max_wait if unknown else None


def after_poll(job: Job, outcome: Outcome, asked: float, now: float, rule: PollingRule) -> Move:
    """From `running`. `asked`: when the call was reserved; upstream is taken to have looked
    half-way from there to now.
    """
    polled: dict[str, Any] = {"polled": now} if outcome.touched else {}
    elapsed = (asked + now) / 2 - (job.submitted or asked)
    match outcome.verdict:
        case Verdict.FINISHED:
            changes: dict[str, Any] = {
                "finished": now,
                "in_progress": True,
                "progress": 100,
                "misses": 0,
            }
            changes["looks"] = _looks(job, Look(elapsed, 100))
            return Move(State.FETCHING, polled | changes)
        case Verdict.PASSING | Verdict.EXHAUSTED if job.requeues < MOST_REQUEUES:
            return _requeue(job, now)
        case Verdict.FAILED | Verdict.PASSING | Verdict.EXHAUSTED:
            return _fail(outcome.code or "generation_failed", outcome.message or "Upstream failed.")
        case Verdict.MISSING if job.misses + 1 >= MISSING_POLLS:
            return _fail(
                "upstream_lost_task", "Upstream accepted this video and no longer knows it."
            )
        case Verdict.MISSING:
            return Move(State.RUNNING, polled | {"misses": job.misses + 1})
        case Verdict.OBSERVED:
            polled["misses"] = 0
            polled["looks"] = _looks(job, Look(elapsed, outcome.progress))
            polled["in_progress"] = job.in_progress or outcome.in_progress
            polled["progress"] = max(job.progress, outcome.progress or 0)
        case verdict if verdict in _OF_THE_ACCOUNT:
            return Move(State.RUNNING, polled)  # it tells of the account, nothing of the task
    unfinished = outcome.verdict is Verdict.OBSERVED  # else nobody has said so
    patience = rule.task_life if unfinished else rule.task_life + LONGEST_OUTAGE
    if job.submitted is not None and now - job.submitted > patience:
        minutes = rule.task_life / 60
        return _fail(
            "generation_timeout", f"Upstream did not finish it within {minutes:g} minutes."
        )
    return Move(State.RUNNING, polled)


def _looks(job: Job, look: Look) -> tuple[Look, ...]:
    return (*job.looks[1 - MOST_LOOKS :], look)


def _requeue(job: Job, now: float) -> Move:
    """Back to its place in line, as if it had never been sent, but for a pause."""
    forgotten = {
        "account": None,
        "upstream_id": None,
        "submitted": None,
        "polled": None,
        "looks": (),
        "in_progress": False,
        "progress": 0,
        "misses": 0,
    }
    counted = {
        "requeues": job.requeues + 1,
        "retry": now + REQUEUE_SECONDS * 2**job.requeues,
    }
    return Move(State.QUEUED, forgotten | counted)


def after_download(job: Job, outcome: Outcome, now: float, wall: float, ttl: float) -> Move:
    """From `fetching`. `ttl`: seconds for which upstream is trusted to keep a finished video."""
    match outcome.verdict:
        case Verdict.FETCHED:
            return completed(outcome, wall)
        case verdict if verdict in _OF_THE_ACCOUNT:
            return Move(State.FETCHING)  # it tells of the account, nothing of the content
    if _is_too_late(job, outcome, now, ttl):
        why = outcome.message or outcome.verdict
        text = f"The video was generated, but could not be fetched while upstream kept it: {why}"
        return _fail(EXPIRED_CODE, text)
    misses = 1 if outcome.advanced else job.misses + 1
    return Move(State.FETCHING, _again(job, misses, now, ttl))


def after_refetch(job: Job, outcome: Outcome, now: float, ttl: float) -> Mapping[str, Any]:
    """The columns of a completed job whose lost content was fetched again, or was not."""
    match outcome.verdict:
        case Verdict.FETCHED:
            return {
                "content_lost": False,
                "content_sha256": outcome.sha256,
                "content_bytes": outcome.size,
            }
        case verdict if verdict in _OF_THE_ACCOUNT:
            return {"misses": job.misses}
    if _is_too_late(job, outcome, now, ttl):
        return {"content_lost": False, "content_gone": True}
    return _again(job, job.misses + 1, now, ttl)


def _is_too_late(job: Job, outcome: Outcome, now: float, ttl: float) -> bool:
    """Whether a content that was not fetched never will be."""
    patience = ttl if outcome.verdict is Verdict.ABSENT else ttl + LONGEST_OUTAGE
    return job.finished is None or now - job.finished > patience


def _again(job: Job, misses: int, now: float, ttl: float) -> Mapping[str, Any]:
    late = job.finished is not None and now - job.finished > ttl
    wait = min(backoff(misses, 0.0), RETRY_LATE if late else RETRY_SOON)
    return {"misses": misses, "retry": now + wait}


def completed(outcome: Outcome, wall: float) -> Move:
    """From `fetching`, once the content is here, whole, verified and fsynced."""
    return Move(
        State.COMPLETED,
        {
            "completed_at": wall,
            "content_sha256": outcome.sha256,
            "content_bytes": outcome.size,
            "progress": 100,
        },
    )


def _fail(code: str, message: str) -> Move:
    return Move(State.FAILED, {"error_code": code, "error_message": message})
