"""The nouns that every layer shares: Job, Call, Account, Caller, Key, and the table of a job's
states.

Owns the states and which of them may follow which. Never does I/O, never asks the time.

A job waits in `queued`. Its POST is reserved: `submitting`. Upstream names it: `running`. Upstream
is done with it: `fetching`. Its bytes lie here, whole, verified, fsynced: `completed`. A POST
proven refused or unsent goes back to `queued`, and so does a task that failed upstream for a
passing reason. Terminal is final: nothing leaves completed, failed or cancelled.

Times called `..._at` are Unix seconds for people; all others are seconds on the ledger's timeline
(`clock.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    FETCHING = "fetching"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.QUEUED: {
        State.SUBMITTING: "its POST is reserved",
        State.CANCELLED: "its caller deleted it before it was sent",
    },
    State.SUBMITTING: {
        State.QUEUED: "the POST was proven refused or unsent; or nobody can tell, and its caller "
        "asked for a second one then (once)",
        State.CANCELLED: "proven refused or unsent, and its caller has deleted it meanwhile",
        State.RUNNING: "upstream accepted it and named it",
        State.FAILED: "upstream refused it for good, or nobody can tell whether a task exists",
    },
    State.RUNNING: {
        State.RUNNING: "upstream reported progress, or a poll told nothing new",
        State.FETCHING: "upstream is done",
        State.QUEUED: "upstream failed for a passing reason: overload or quota (three times)",
        State.FAILED: "upstream failed, lost it, took longer than task_life; or it was deleted",
    },
    State.FETCHING: {
        State.FETCHING: "a download was cut off and will go on",
        State.COMPLETED: "the content is here, whole, verified, fsynced",
        State.FAILED: "the content could not be fetched in time; or it was deleted",
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.CANCELLED: {},
}

MOST_LOOKS = 8
"""How many looks at a video are kept."""

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
"""States that nothing leaves."""


class Look(NamedTuple):
    """What a poll found: `progress` (0 to 100) that upstream told, if any, `elapsed` seconds after
    it had taken the video.
    """

    elapsed: float
    progress: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """One video that a caller asked for. `seq` is its place in line; `id` is what callers know it
    by.
    """

    id: str
    caller: str
    state: State
    model: str
    size: str
    seconds: int
    prompt: str
    created_at: float
    accepted: float
    seq: int = 0
    input_sha256: str | None = None
    input_type: str | None = None
    account: str | None = None
    upstream_id: str | None = None
    in_progress: bool = False
    """Whether upstream has begun to generate it."""
    progress: int = 0
    """0 to 100, as upstream reported it, never falling."""
    submitted: float | None = None
    """When it was sent; once upstream has taken it, about when that was."""
    polled: float | None = None
    looks: tuple[Look, ...] = ()
    """What its latest polls found, `MOST_LOOKS` at most; the last one may have found it finished.
    """
    finished: float | None = None
    """When upstream's completion was first seen."""
    misses: int = 0
    """Polls in a row that answered 404, or downloads in a row that brought nothing."""
    retry: float = 0.0
    """No submit and no download before this moment."""
    requeues: int = 0
    """How often upstream failed it for a passing reason, and it went back to the queue."""
    resends: int = 0
    """How many submits of unknown outcome may still be followed by another: 1 when its caller asked
    for `on_unknown = resubmit`.
    """
    completed_at: float | None = None
    content_sha256: str | None = None
    content_bytes: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    fingerprint: str | None = None
    """The SHA-256 of all that its caller asked for: tells a repeated request from another one."""
    repeats: int = 0
    """The highest count of an SDK's retry that was answered with this job."""
    deleted_at: float | None = None
    """Its caller no longer sees it; a task upstream goes on, and keeps its slot."""
    fetched_at: float | None = None
    """When its caller first had its content whole, in one answer or in several of which each went
    on from those before it. Never evicted for room before that.
    """
    content_lost: bool = False
    """The stored bytes no longer hold: to be fetched again while upstream has them."""
    content_gone: bool = False
    """The content is no longer kept; the object stays."""
    replaces: str | None = None
    """The failed job in whose place an operator made this one."""
    replaced_by: str | None = None
    """The job that an operator made in the place of this failed one."""

    @property
    def download_failed(self) -> bool:
        """Whether a download of its content has failed, since it was seen to be finished."""
        return self.retry > (self.finished or 0.0)

    @property
    def was_adopted(self) -> bool:
        """Whether its task was adopted: nobody knows since when upstream has it. The others were
        sent after they were accepted.
        """
        return self.submitted == self.accepted

    @property
    def wants_content(self) -> bool:
        """Whether its content is to be here, or may be one day. Once it is not, it never is."""
        kept = self.deleted_at is None and not self.content_gone
        return kept and self.state not in (State.FAILED, State.CANCELLED)

    @property
    def is_seen(self) -> bool:
        """Whether its caller still sees it."""
        return self.deleted_at is None and self.state is not State.CANCELLED

    def with_input(self, sha256: str, media_type: str) -> "Job":
        """The job with an input image, named by the SHA-256 of its bytes."""
        return replace(self, input_sha256=sha256, input_type=media_type)

    def asked_by(self, fingerprint: str) -> "Job":
        """The job with the fingerprint of the request that asks for it."""
        return replace(self, fingerprint=fingerprint)


class Kind(StrEnum):
    """The three kinds of call upstream. All share the one budget."""

    SUBMIT = "submit"
    POLL = "poll"
    DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Call:
    """One call upstream: it takes its place in the window when reserved, and gives it back after it
    ended.
    """

    id: int
    account: str
    kind: Kind
    job_id: str | None
    """None: a GET of an id that can't exist, to see whether upstream answers sanely."""
    reserved: float
    ended: float | None = None
    outcome: str | None = None
    touched: bool = True
    """False once it is sure that the call never reached upstream: then it takes no place."""
    slot_until: float | None = None
    """A submit of unknown outcome keeps a slot until then, whatever becomes of its job."""


@dataclass(frozen=True, slots=True)
class Account:
    """How an upstream key fares. Its settings are in `config.py`; this is what the ledger
    remembers.
    """

    name: str
    opens: float = 0.0
    """No call of any kind before this moment."""
    submits: float = 0.0
    """No submit before this moment; polls and downloads go on."""
    failures: int = 0
    """Calls in a row that upstream did not serve."""
    refusals: int = 0
    """Submits in a row that were denied for the key's sake, or whose outcome is unknown."""
    doubt: str | None = None
    """Why no submit goes out until a GET has been answered sanely; None: submits may go."""
    trouble: str | None = None
    """What is wrong with this account now, in words, for people; None: nothing."""
    doubt_since: float = 0.0
    """When the doubt arose, where there is one."""
    paused: bool = False
    """An operator holds submits back; polls and downloads go on."""
    not_before: float = 0.0
    """What no operator can shorten: `opens` as a new boot set it, when the window was unknown."""
    revision: int = 0
    """Grows with each change: of two pictures of it, the newer one counts, whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a key. `name` is chosen by the administrator and stands in logs."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key, as the ledger knows it: never the key itself."""

    id: str
    caller: Caller
    digest: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobMoved:
    """A job entered a state. `before` is None when it was just accepted."""

    before: State | None
    job: Job


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job's columns changed and its state did not: other processes must see it."""

    job: Job


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call upstream ended."""

    call: Call


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """What people should know of an account changed: trouble, doubt, whether it is paused."""

    before: Account
    account: Account


Event = JobMoved | JobChanged | CallEnded | AccountChanged
