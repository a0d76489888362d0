"""What an account's loop does next: one decision over all the calls that it could make.

Downloads go first, since content expires upstream; then submits, since a free slot is what
everybody waits for; then polls. The order starves nobody: downloads are bounded by what has
finished, and submits by the slots, which only polls set free.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.job import Account, Kind
from gateway.policy.polling import PollingRule, when_to_poll
from gateway.policy.window import Place, WindowRule, opens_at

LOOK_FOR_ROOM = 60.0
"""Seconds between two looks whether the disk has room again: nobody tells."""


@dataclass(frozen=True, slots=True)
class Rules:
    """An account's limits: its window, its slots (`concurrent` videos at once), its polling."""

    window: WindowRule
    polling: PollingRule
    concurrent: int
    counts: frozenset[Kind] = frozenset(Kind)
    """The kinds of call that upstream counts; the others need no place."""


@dataclass(frozen=True, slots=True)
class Running:
    """A video that upstream is working on, with no call under way."""

    job_id: str
    submitted: float
    polled: float | None


@dataclass(frozen=True, slots=True)
class Fetching:
    """A video that waits to be brought home, with no call under way. Not before `retry`."""

    job_id: str
    retry: float


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision may look at, at the moment `now`.

    `slots_taken` counts videos that upstream works on or may work on; `slot_returns` is when the
    next one of unknown fate gives its slot back. `to_fetch` counts finished videos not yet home,
    those under way too. `head` is first in line among the jobs that are due; `head_due` is when the
    next of the others becomes due. `room` says whether the disk has room for one more video.
    """

    now: float
    account: Account
    places: Sequence[Place]
    slots_taken: int
    slot_returns: float
    running: Sequence[Running]
    fetching: Sequence[Fetching]
    to_fetch: int
    head: str | None
    room: bool
    looking: bool
    """A GET is under way."""
    submitting: bool = False
    """A POST is under way. One at a time: a broken gateway in front of upstream costs one job."""
    head_due: float = math.inf
    probed: float = -math.inf
    """When an id that can't exist was last asked about."""


@dataclass(frozen=True, slots=True)
class Send:
    """Reserve this call and start it. `job_id` is None for a GET that only asks whether upstream is
    sane.
    """

    kind: Kind
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send before `until` (infinity: before something changes)."""

    until: float


def next_call(view: View, rules: Rules) -> Send | Wait:
    """The one thing to do now. Earlier in `_candidates` goes first among the calls that are due."""
    window_opens = opens_at(rules.window, view.places, view.now)
    until = math.inf
    for due, send in _candidates(view, rules):
        due = max(due, view.account.opens, window_opens if send.kind in rules.counts else due)
        if due <= view.now:
            return send
        until = min(until, due)
    if view.head is not None and view.slot_returns > view.now:
        until = min(until, view.slot_returns)
    if view.head is None and view.head_due > view.now:
        until = min(until, view.head_due)
    return Wait(until)


def may_submit(view: View, rules: Rules) -> bool:
    """Whether one more paid task may be created, as far as slots and trust in upstream go."""
    return (
        not view.submitting
        and view.slots_taken < rules.concurrent
        and view.to_fetch <= rules.concurrent
        and view.account.doubt is None
        and not view.account.paused
    )


def probe_due(view: View, rules: Rules) -> float:
    """When to ask about an id that can't exist, to clear a doubt; infinity: no need to.

    The running videos are asked about first, since that is worth its place in the window. Only when
    each was looked at since the doubt arose and none has cleared it (a task of another key stays
    denied for ever) does a probe go out beside them, no more often than any other poll.
    """
    account = view.account
    if account.doubt is None or account.paused or view.looking:
        return math.inf
    if not view.running:
        return account.submits
    looked = all((task.polled or 0.0) > account.doubt_since for task in view.running)
    return max(account.submits, view.probed + rules.polling.interval) if looked else math.inf


def _candidates(view: View, rules: Rules) -> Iterator[tuple[float, Send]]:
    for video in sorted(view.fetching, key=lambda video: video.retry):
        yield video.retry, Send(Kind.DOWNLOAD, video.job_id)
    if view.head is not None and may_submit(view, rules):
        room = view.now if view.room else view.now + LOOK_FOR_ROOM
        yield max(view.account.submits, room), Send(Kind.SUBMIT, view.head)
    looks = [
        (when_to_poll(task.submitted, task.polled, rules.polling), Send(Kind.POLL, task.job_id))
        for task in view.running
    ]
    looks.append((probe_due(view, rules), Send(Kind.POLL, None)))
    yield from sorted(looks, key=lambda look: look[0])  # in turns: each may close the account
