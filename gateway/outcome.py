"""What a call upstream came to, as a value. Says nothing of what to do about it: that is
`policy/verdicts.py`.

An outcome has two sides that must not be confused: did it touch upstream's window, and may a task
exist.

| verdict | from | touched the window | a task may exist |
| --- | --- | --- | --- |
| unsent | any: refused, DNS, TLS, connect timeout | no | no |
| cut_off | submit: the upload ended before its end | yes | no |
| rate_limited | any: 429 | yes | no |
| denied | any: 401, 403, quota | yes | no |
| unavailable | any: upstream's own 5xx; a broken GET | yes | no |
| rejected | submit: 400, moderation | yes | no |
| accepted | submit | yes | yes, and its id is known |
| unknown | submit: anything else | yes | nobody can tell |
| observed, finished, failed, missing | poll | yes | (it was there before) |
| passing | poll: it failed, for overload | yes | no longer, and it was not billed |
| exhausted | poll: it failed, for quota or balance | yes | no longer, and it was not billed |
| fetched, absent, broken | download | yes | (it was there before) |
| interrupted | poll, download: stopped by us, or wanted no more | yes | (it was there before) |
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    UNSENT = "unsent"
    CUT_OFF = "cut_off"
    RATE_LIMITED = "rate_limited"
    DENIED = "denied"
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    OBSERVED = "observed"
    FINISHED = "finished"
    FAILED = "failed"
    PASSING = "passing"
    EXHAUSTED = "exhausted"
    MISSING = "missing"
    FETCHED = "fetched"
    ABSENT = "absent"
    BROKEN = "broken"
    INTERRUPTED = "interrupted"


SANE = frozenset(
    {Verdict.OBSERVED, Verdict.FINISHED, Verdict.FAILED, Verdict.PASSING, Verdict.MISSING}
)
"""Answers to a GET that show that upstream itself is speaking, not something broken in front of it,
and that it would take a video now.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and what came with it. `message` and `code` are upstream's own words where it gave
    them.
    """

    verdict: Verdict
    message: str = ""
    code: str = ""
    retry_after: float | None = None
    """Seconds, with `rate_limited`, when upstream said so."""
    upstream_id: str | None = None
    in_progress: bool = False
    progress: int | None = None
    """0 to 100; None: upstream did not say, or said nonsense."""
    sha256: str | None = None
    size: int | None = None
    """Bytes, with `fetched`."""
    advanced: bool = False
    """A download that was broken off, but brought some bytes that count."""

    @property
    def touched(self) -> bool:
        """Whether upstream may have counted the call."""
        return self.verdict is not Verdict.UNSENT
