"""One provider's words: what it calls a job's status, and which of its answers prove a refusal.

Pure: from a status code and a decoded body to an `Outcome`. Facts from the provider's "Sora 2 Async
API" page and OpenAI's Videos reference.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.outcome import Outcome, Verdict

LONGEST_ID = 200
LONGEST_MESSAGE = 1000

_QUOTA_WORDS = ("quota", "balance", "billing", "insufficient")
"""In a 429 or an error's code or message: it is money that is missing, and waiting a minute won't
bring it.
"""

_STATUSES: Mapping[str, Verdict] = {
    "submitted": Verdict.OBSERVED,
    "queued": Verdict.OBSERVED,
    "in_progress": Verdict.OBSERVED,
    "completed": Verdict.FINISHED,
    "failed": Verdict.FAILED,
    "cancelled": Verdict.FAILED,
    "expired": Verdict.FAILED,
}
"""Every provider's words so far; one that is not here counts as in progress until the deadline."""

_WAITING = frozenset({"submitted", "queued"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one provider differs from the others. `queued`: its word for a job that waits.

    The rest are words in the code or message of a failed task, in lower case. `final`: it would
    fail again. `quota`: money is missing. `passing`: it may well succeed later. What holds a final
    word is final; neither passing nor quota is billed.
    """

    queued: str
    final: tuple[str, ...]
    quota: tuple[str, ...]
    passing: tuple[str, ...]


_FINAL = ("policy", "moderation", "safety", "prohibited", "invalid", "parameter", "unsupported")
_PASSING = ("overload", "at capacity", "heavy load", "high load", "busy", "rate_limit",
            "try again later", "temporarily unavailable", "service_unavailable")  # fmt: skip

DIALECTS: Mapping[str, Dialect] = {
    "apiyi": Dialect("submitted", _FINAL, (*_QUOTA_WORDS, "arrears"), _PASSING),
    "openai": Dialect("queued", _FINAL, _QUOTA_WORDS, _PASSING),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole. `body` is its decoded JSON object; None: it was none, or too
    large.
    """

    status: int
    body: Mapping[str, Any] | None
    retry_after: float | None = None


def read_submit(answer: Answer) -> Outcome:
    """What a POST came to. Only the provider's own error proves that no task exists."""
    if answer.status in (200, 201, 202):
        body = answer.body or {}
        upstream_id = body.get("id")
        if not isinstance(upstream_id, str) or not 0 < len(upstream_id) <= LONGEST_ID:
            return Outcome(Verdict.UNKNOWN, f"{answer.status} without an id")
        return Outcome(
            Verdict.ACCEPTED,
            upstream_id=upstream_id,
            in_progress=body.get("status") not in _WAITING,
            progress=read_progress(body.get("progress")),
        )
    code, message = read_error(answer.body)
    if (common := _common(answer, code, message)) is not None:
        return common
    if answer.status in (500, 503) and message:
        return Outcome(Verdict.UNAVAILABLE, message, code)
    if answer.status in (404, 405):  # not the job's fault: this is no video API
        return Outcome(Verdict.DENIED, f"POST /v1/videos answers {answer.status}")
    if 400 <= answer.status < 500 and answer.status not in (408, 499):
        return Outcome(Verdict.REJECTED, message or f"upstream answered {answer.status}", code)
    return Outcome(Verdict.UNKNOWN, f"{answer.status} that does not prove a refusal")


def read_poll(answer: Answer, dialect: Dialect) -> Outcome:
    """What a GET of a video object came to."""
    body = answer.body
    code, message = read_error(body)
    if answer.status == 200 and body is not None and isinstance(body.get("status"), str):
        status = body["status"]
        verdict = _STATUSES.get(status, Verdict.OBSERVED)
        if verdict is Verdict.FAILED:
            why = read_failure(code, message, dialect) if status == "failed" else verdict
            return Outcome(why, message or f"Upstream says: {status}.", code)
        progress = read_progress(body.get("progress"))
        return Outcome(verdict, in_progress=status not in _WAITING, progress=progress)
    if (common := _common(answer, code, message)) is not None:
        return common
    if answer.status == 404 and body is not None:  # upstream's own: a broken gateway speaks HTML
        return Outcome(Verdict.MISSING, message, code)
    return Outcome(Verdict.UNAVAILABLE, message or f"{answer.status} that makes no sense", code)


def read_failure(code: str, message: str, dialect: Dialect) -> Verdict:
    """Why a task failed, by what upstream says of it: for good, or for a passing reason."""
    said = f"{code} {message}".lower()
    if any(word in said for word in dialect.final):
        return Verdict.FAILED
    if any(word in said for word in dialect.quota):
        return Verdict.EXHAUSTED
    passing = any(word in said for word in dialect.passing)
    return Verdict.PASSING if passing else Verdict.FAILED


def read_probe(answer: Answer, dialect: Dialect) -> Outcome:
    """What a GET of an id that can't exist came to: any refusal in the provider's own JSON that is
    not of the account will do, for some answer 400 to an id that is none of theirs.
    """
    outcome = read_poll(answer, dialect)
    if outcome.verdict is Verdict.UNAVAILABLE and 400 <= answer.status < 500:
        code, message = read_error(answer.body)
        if code or message:
            return Outcome(Verdict.MISSING, message, code)
    return outcome


def read_download_refusal(answer: Answer) -> Outcome:
    """What a GET of a content came to that did not answer 200 or 206."""
    code, message = read_error(answer.body)
    if (common := _common(answer, code, message)) is not None:
        return common
    if answer.status in (404, 410):
        return Outcome(Verdict.ABSENT, message or f"upstream answered {answer.status}", code)
    if answer.status == 416:
        return Outcome(Verdict.BROKEN, "upstream has fewer bytes than it sent before")
    return Outcome(Verdict.UNAVAILABLE, message or f"upstream answered {answer.status}", code)


def _common(answer: Answer, code: str, message: str) -> Outcome | None:
    """The answers that tell of the account, whatever the call."""
    said = f"{code} {message}".lower()
    if answer.status in (401, 402, 403):
        return Outcome(Verdict.DENIED, message or f"upstream answered {answer.status}", code)
    if answer.status == 429:
        if any(word in said for word in _QUOTA_WORDS):
            return Outcome(Verdict.DENIED, message, code)
        return Outcome(Verdict.RATE_LIMITED, message, code, retry_after=answer.retry_after)
    return None


def read_error(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and message of the provider's JSON error; both empty when there is none."""
    error = (body or {}).get("error")
    if isinstance(error, str):
        return "", _clean(error)
    if not isinstance(error, Mapping):
        return "", ""
    message = error.get("message")
    code = error.get("code") or error.get("type")
    return (
        _clean(code)[:100] if isinstance(code, str) else "",
        _clean(message) if isinstance(message, str) else "",
    )


def read_progress(value: object) -> int | None:
    """0 to 100 from whatever upstream says; None when it says nothing usable."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(min(max(value, 0), 100))


def _clean(text: str) -> str:
    return "".join(char for char in text if char.isprintable() or char == "\n")[:LONGEST_MESSAGE]
