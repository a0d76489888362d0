"""What the latest videos took from upstream's taking them until they were here, by model and
seconds, and by account: read from the jobs that are in the ledger. Those that had waited in line
are told apart, for where slots or window are full, polls and downloads wait as well.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import NamedTuple

from gateway.job import Job, JobMoved, State
from gateway.ledger.transitions import Change
from gateway.policy.estimate import Usual
from gateway.policy.habit import deviation

Group = tuple[str, ...] | tuple[str, str, int] | tuple[str, str, str, int]
"""Videos that are asked together: ("all",), ("sort", model, seconds), ("account", its name),
("upstream", where they are made), and the last two with model and seconds.
"""

_ALL: Group = ("all",)

LATEST = 30
"""By how many videos it is told what is usual, at most."""

REMEMBERED = 120
"""How many videos of each group are remembered: among them are those that had waited. As many of
each account, model and seconds are learnt from again at a start.
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
    seconds from then until it was here; polls.
    """

    waited: bool
    held: float
    fetch: float
    polls: int


class Lately:
    """The latest videos, and what is usual by them. `upstreams`: where each account's videos are
    made, by its name.
    """

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        self._upstreams = upstreams
        self._took: dict[Group, deque[_Took]] = {}
        self._count: Counter[Group] = Counter()
        """How many were learnt from."""
        self._freed: dict[str, float] = {}
        """By account: when a slot came free the last time, unless one was taken since."""
        self._refills: dict[str, deque[float]] = {}
        """By account: seconds until a slot that came free was taken."""
        self._known: dict[tuple[Group, float, bool | None], tuple[int, Usual]] = {}

    def take(self, change: Change) -> None:
        """Learn from the videos that a change has completed, and the slots that were refilled."""
        for event in change.events:
            if isinstance(event, JobMoved) and event.before is not event.job.state:
                self._note_slot(event)
                if event.job.state is State.COMPLETED:
                    for download in change.calls:  # none where a start found its content here
                        self.learn(event.job, download.ended or 0.0)

    def learn(self, job: Job, completed: float) -> None:
        """Learn from a video that was here at `completed`; those of before first."""
        if job.submitted is None or job.finished is None or job.was_adopted:
            return
        took = _Took(
            has_waited(job.accepted, job.submitted),
            max(job.finished - job.submitted, 0.0),
            max(completed - job.finished, 0.0),
            len(job.looks),
        )
        account, model, seconds = job.account or "", job.model, job.seconds
        place = self._upstream(account)
        groups: list[Group] = [_ALL, ("sort", model, seconds), ("account", account), place]
        groups += [("account", account, model, seconds), (*place, model, seconds)]
        for group in groups:
            self._took.setdefault(group, deque(maxlen=REMEMBERED)).append(took)
            self._count[group] += 1

    def _note_slot(self, event: JobMoved) -> None:
        job, account = event.job, event.job.account or ""
        if job.state is State.FETCHING and job.finished is not None:
            self._freed[account] = job.finished
        elif event.before is State.SUBMITTING and job.state is State.RUNNING:
            since = self._freed.pop(account, math.inf)
            if job.accepted <= since < math.inf and job.submitted is not None:
                refills = self._refills.setdefault(account, deque(maxlen=LATEST))
                refills.append(max(job.submitted - since, 0.0))

    def usual_of_sort(
        self, model: str, seconds: int, expected: float, waited: bool | None = None
    ) -> Usual:
        """What is usual for a model and seconds, by the downloads of all; of those that had waited
        in line, of those that hadn't, or of both (None). `expected`: what a video takes as far as
        nothing is known.
        """
        return self._usual(("sort", model, seconds), _ALL, expected, waited)

    def usual_of_account(self, name: str, expected: float) -> Usual:
        """What is usual for an account, or, while it has made few, for those of its upstream."""
        group: Group = ("account", name)
        if self._count[group] < _FEW:
            group = self._upstream(name)
        usual = self._usual(group, group, expected, None)
        refills = self._refills.get(name)
        return replace(usual, cycle=usual.cycle + median(refills)) if refills else usual

    def held(self, job: Job, expected: float) -> float:
        """`Usual.held` of an account's videos like this one, or of its upstream's."""
        account, model, seconds = job.account or "", job.model, job.seconds
        group: Group = ("account", account, model, seconds)
        if self._count[group] < _FEW:
            group = (*self._upstream(account), model, seconds)
        return self._usual(group, group, expected, None).held

    def _upstream(self, account: str) -> tuple[str, str]:
        return "upstream", self._upstreams.get(account, account)

    def _usual(self, group: Group, fetched: Group, expected: float, waited: bool | None) -> Usual:
        """`fetched`: whose downloads are asked. Worked out once, until more is learnt of them."""
        asked, count = (group, expected, waited), self._count[fetched]
        known = self._known.get(asked)
        if known is None or known[0] != count:
            known = self._known[asked] = count, self._work_out(group, fetched, expected, waited)
        return known[1]

    def _work_out(
        self, group: Group, fetched: Group, expected: float, waited: bool | None
    ) -> Usual:
        like = self._like(group, waited)
        held = [*(took.held for took in like), *[expected] * _IMAGINED]
        spread = deviation(held) if len(held) > 8 else 0.5 * expected
        cycle = fmean(took.held for took in like) if like else expected
        polls = fmean(took.polls for took in like) if like else 2.0
        fetches = sorted(took.fetch for took in self._like(fetched, waited))
        return Usual(median(held), spread, cycle, polls, tuple(fetches) or (_FETCH,))

    def _like(self, group: Group, waited: bool | None) -> Sequence[_Took]:
        """The latest of a group that had waited, or that hadn't; all of it for None, or where those
        are few.
        """
        latest = [*self._took.get(group, ())]
        like = [took for took in latest if waited in (None, took.waited)]
        return (like if len(like) >= _FEW else latest)[-LATEST:]


def has_waited(accepted: float, taken: float) -> bool:
    """Whether a job that was accepted and taken by upstream at these moments had waited in line, or
    for an account that paused, backed off or refused it.
    """
    return taken - accepted > _WAITED
