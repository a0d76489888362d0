"""How long videos took lately, by model and seconds: read from the jobs that are in the ledger."""

from collections import deque

from gateway.job import Job, JobMoved, State
from gateway.policy.belief import Habit
from gateway.policy.habit import MOST_LESSONS, Lesson, differs, learn, lesson, unknown

EVERY = 30.0
"""Seconds between two times that a habit is learnt anew: what is worked out for it is much."""

Kind = tuple[str, int]


class History:
    """The lessons of the latest finished videos, and the habits that they teach."""

    def __init__(self) -> None:
        self._lessons: dict[Kind, deque[Lesson]] = {}
        self._habits: dict[tuple[Kind, float], Habit] = {}
        self._learnt: dict[tuple[Kind, float], float] = {}
        """When the latest video that a habit goes by was finished."""
        self._latest: dict[Kind, float] = {}

    def take(self, event: JobMoved) -> None:
        """Learn from a video that was just seen to be finished."""
        if event.before is State.RUNNING and event.job.state is State.FETCHING:
            self.learn(event.job)

    def learn(self, job: Job) -> None:
        """Learn from a finished video; those of before first."""
        if not job.looks or job.finished is None:
            return
        kind = (job.model, job.seconds)
        seen = self._lessons.setdefault(kind, deque(maxlen=MOST_LESSONS))
        taken = next((habit for (of, _), habit in self._habits.items() if of == kind), None)
        taught = lesson(taken or unknown(job.looks[-1].elapsed), job.looks)
        if taught is not None:
            seen.append(taught)
            self._latest[kind] = job.finished

    def habit(self, model: str, seconds: int, expected: float) -> Habit:
        """How videos of a kind behave; `expected`: their seconds, as far as nothing is known."""
        kind = (model, seconds)
        key = (kind, expected)
        habit = self._habits.get(key)
        latest = self._latest.get(kind, 0.0)
        if habit is None or latest > self._learnt[key] + EVERY:
            learnt = learn(self._lessons.get(kind, ()), expected)
            if habit is None or differs(habit, learnt):
                habit = self._habits[key] = learnt
            self._learnt[key] = latest
        return habit
