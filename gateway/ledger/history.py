"""How long videos took lately, by upstream, model and seconds: read from the jobs that are in the
ledger.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import chain

from gateway.job import Job, JobMoved, State
from gateway.policy.belief import Habit
from gateway.policy.habit import MOST_LESSONS, Lesson, differs, learn, lesson, unknown

EVERY = 30.0
"""Seconds between two times that a habit is learnt anew: what is worked out for it is much."""

Sort = tuple[str, str, int]
"""Upstream, model, seconds: videos of one sort are taken to behave alike."""


class History:
    """The lessons of the latest finished videos, and the habits that they teach. `upstreams`: where
    each account's videos are made, by its name; accounts of one place teach each other.
    """

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        self._upstreams = upstreams
        self._lessons: dict[Sort, deque[Lesson]] = {}
        self._habits: dict[tuple[Sort, float], Habit] = {}
        self._learnt: dict[tuple[Sort, float], float] = {}
        """When the latest video that a habit goes by was finished."""
        self._latest: dict[Sort, float] = {}

    def take(self, event: JobMoved) -> None:
        """Learn from a video that was just seen to be finished."""
        if event.before is State.RUNNING and event.job.state is State.FETCHING:
            self.learn(event.job)

    def learn(self, job: Job) -> None:
        """Learn from a finished video; those of before first."""
        if not job.looks or job.finished is None or job.was_adopted:
            return
        sort = self._sort(job)
        seen = self._lessons.setdefault(sort, deque(maxlen=MOST_LESSONS))
        taken = next((habit for (of, _), habit in self._habits.items() if of == sort), None)
        taught = lesson(taken or unknown(job.looks[-1].elapsed), job.looks)
        if taught is not None:
            seen.append(taught)
            self._latest[sort] = job.finished

    def learn_all(self, jobs: Iterable[Job]) -> None:
        """Learn from finished videos, those of before first: of each sort, from as many as are
        remembered, since a lesson takes a while.
        """
        latest: dict[Sort, deque[Job]] = {}
        for job in jobs:
            latest.setdefault(self._sort(job), deque(maxlen=MOST_LESSONS)).append(job)
        for job in chain.from_iterable(latest.values()):
            self.learn(job)

    def habit(self, job: Job, expected: float) -> Habit:
        """How videos like it behave; `expected`: their seconds, as far as nothing is known."""
        sort = self._sort(job)
        key = (sort, expected)
        habit = self._habits.get(key)
        latest = self._latest.get(sort, 0.0)
        if habit is None or latest > self._learnt[key] + EVERY:
            learnt = learn(self._lessons.get(sort, ()), expected)
            if habit is None or differs(habit, learnt):
                habit = self._habits[key] = learnt
            self._learnt[key] = latest
        return habit

    def _sort(self, job: Job) -> Sort:
        account = job.account or ""
        return self._upstreams.get(account, account), job.model, job.seconds
