"""What the latest videos took from upstream's taking them until they were here, by model and
seconds: read from the jobs that are in the ledger. Those that had waited in line are told apart,
for where slots or window are full, polls and downloads wait as well.
"""

import math
from collections import deque
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from gateway.job import Call, Job, JobMoved, Kind, State
from gateway.ledger.transitions import Change
from gateway.policy.estimate import Usual
from gateway.policy.habit import deviation

Sort = tuple[str, int]

LATEST = 30
"""By how many videos it is told what is usual, at most."""

REMEMBERED = 120
"""How many videos are remembered, of each sort and of all: among them are those that had waited. As
many are learnt from again at a start.
"""

_FEW = 4
"""Fewer of those that had waited, or of those that hadn't, are no rule: all are asked instead."""

_WAITED = 5.0
"""Seconds: more than a submit takes that goes at once."""

_IMAGINED = 2
"""How many videos of the expected seconds are taken as seen."""

_FETCH = 2.0
"""Seconds that a download takes, until that is known."""


class _Took(NamedTuple):
    """What one video took: whether it had waited in line; seconds upstream, until its end was seen;
    seconds from then until it was here.
    """

    waited: bool
    held: float
    fetch: float


class Lately:
    """The latest videos, and what is usual by them."""

    def __init__(self) -> None:
        self._took: dict[Sort | None, deque[_Took]] = {}
        self._freed: dict[str, float] = {}
        """By account: when a slot came free the last time, unless one was taken since."""
        self._refills: deque[float] = deque(maxlen=LATEST)
        self._calls: deque[int] = deque(maxlen=LATEST)
        self._count = 0
        self._known: dict[tuple[Sort | None, float, bool | None], tuple[int, Usual]] = {}

    def take(self, change: Change) -> None:
        """Learn from the videos that a change has completed, and the slots that were refilled."""
        for event in change.events:
            if isinstance(event, JobMoved) and event.before is not event.job.state:
                self._note_slot(event)
        downloads = [call for call in change.calls if call.kind is Kind.DOWNLOAD]
        for job in change.jobs:
            if job.state is State.COMPLETED and (ended := _ended(job, downloads)) is not None:
                self.learn(job, ended)

    def learn(self, job: Job, completed: float) -> None:
        """Learn from a video that was here at `completed`; those of before first."""
        if job.submitted is None or job.finished is None:
            return
        took = _Took(
            has_waited(job.accepted, job.submitted),
            max(job.finished - job.submitted, 0.0),
            max(completed - job.finished, 0.0),
        )
        for sort in (None, (job.model, job.seconds)):
            self._took.setdefault(sort, deque(maxlen=REMEMBERED)).append(took)
        self._calls.append(len(job.looks) + 2)
        self._count += 1

    def _note_slot(self, event: JobMoved) -> None:
        job, account = event.job, event.job.account or ""
        if job.state is State.FETCHING and job.finished is not None:
            self._freed[account] = job.finished
        elif event.before is State.SUBMITTING and job.state is State.RUNNING:
            since = self._freed.pop(account, math.inf)
            if job.accepted <= since < math.inf and job.submitted is not None:
                self._refills.append(max(job.submitted - since, 0.0))

    def usual(self, sort: Sort | None, expected: float, waited: bool | None = None) -> Usual:
        """What is usual for a model and seconds, or for all (None), of those that had waited in
        line, of those that hadn't, or of all (None); `expected`: what a video takes as far as
        nothing is known.
        """
        asked = (sort, expected, waited)
        known = self._known.get(asked)
        if known is None or known[0] != self._count:
            known = self._known[asked] = self._count, self._usual(*asked)
        return known[1]

    def _usual(self, sort: Sort | None, expected: float, waited: bool | None) -> Usual:
        seen = [took.held for took in self._like(sort, waited)]
        fetches = sorted(took.fetch for took in self._like(None, waited))
        held = [*seen, *[expected] * _IMAGINED]
        spread = deviation(held) if len(held) > 8 else 0.5 * expected
        cycle = (fmean(seen) if seen else expected) + median(self._refills or (0.0,))
        calls = fmean(self._calls) if self._calls else 4.0
        return Usual(median(held), spread, cycle, calls, tuple(fetches) or (_FETCH,))

    def _like(self, sort: Sort | None, waited: bool | None) -> Sequence[_Took]:
        """The latest of a sort that had waited, or that hadn't; of all for None, or where those are
        few.
        """
        latest = [*self._took.get(sort, ())]
        like = [took for took in latest if waited in (None, took.waited)]
        return (like if len(like) >= _FEW else latest)[-LATEST:]


def has_waited(accepted: float, taken: float) -> bool:
    """Whether a job that was accepted and taken by upstream at these moments had waited in line, or
    for an account that paused, backed off or refused it.
    """
    return taken - accepted > _WAITED


def _ended(job: Job, downloads: list[Call]) -> float | None:
    """When the download ended that completed a job. None: it was another change."""
    return next((call.ended for call in downloads if call.job_id == job.id), None)
