"""The queue: all jobs that wait, in one order, first come first.

An account serves some models only, a job that came back is not due for a while, and one whose
submit is being reserved is claimed. So what may be sent next is kept apart from the order that
callers are told of: by model, the places of those that are due, and of those that come due later.
Each step costs O(log n) of the jobs that wait, whatever they wait for.
"""

import math
from collections import defaultdict
from collections.abc import Collection

from sortedcontainers import SortedList

from gateway.job import Job


class Line:
    """Jobs in the state queued. A place is `Job.seq`, which no two jobs share.

    `now` is a moment on the ledger's timeline, and never falls from one question to the next.
    """

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._places: defaultdict[str, SortedList[int]] = defaultdict(SortedList)
        """Of all jobs, by model; and of those that may be sent, now and later."""
        self._due: defaultdict[str, SortedList[int]] = defaultdict(SortedList)
        self._later: defaultdict[str, SortedList[tuple[float, int]]] = defaultdict(SortedList)
        self._claimed: set[int] = set()
        self._now = 0.0
        """The latest moment asked about: what was due by then stands among the due."""

    def __len__(self) -> int:
        return len(self._jobs)

    def update(self, job: Job) -> None:
        """A job that stands in line, with other columns: its claim goes on."""
        if job.seq in self._claimed:
            self._jobs[job.seq] = job
        else:
            self.remove(job)
            self.add(job)

    def add(self, job: Job) -> None:
        """A job takes its place, which may be between others: it keeps the one that it had."""
        self._jobs[job.seq] = job
        self._places[job.model].add(job.seq)
        self._offer(job)

    def remove(self, job: Job) -> None:
        """A job that stands in line leaves it."""
        job = self._jobs.pop(job.seq)
        self._places[job.model].remove(job.seq)
        if job.seq in self._claimed:
            self._claimed.remove(job.seq)
        else:
            self._withdraw(job)

    def claim(self, job: Job) -> None:
        """Offer a job that `head` gave to nobody until it is released; its place stays."""
        self._withdraw(self._jobs[job.seq])
        self._claimed.add(job.seq)

    def release(self, job: Job) -> None:
        """End a claim: if the job has not left the line since, it is offered again."""
        if job.seq in self._claimed:
            self._claimed.remove(job.seq)
            self._offer(self._jobs[job.seq])

    @property
    def claimed(self) -> int:
        """How many jobs are claimed."""
        return len(self._claimed)

    def first(self) -> Job | None:
        """First in line, due or not, claimed or not."""
        places = [places[0] for places in self._places.values() if places]
        return self._jobs[min(places)] if places else None

    def head(self, models: Collection[str], now: float) -> Job | None:
        """First in line of the jobs of these models that are due and not claimed."""
        self._come_due(models, now)
        places = [self._due[model][0] for model in models if self._due.get(model)]
        return self._jobs[min(places)] if places else None

    def next_due(self, models: Collection[str]) -> float:
        """When the next job of these models comes due, of those that were not due at the latest
        moment asked about; infinity: there is none.
        """
        return min(
            (self._later[model][0][0] for model in models if self._later.get(model)),
            default=math.inf,
        )

    def position(self, job: Job, models: Collection[str] | None = None) -> int:
        """How many are before it in line, of these models or of all, and itself: 1 is next."""
        asked = [*self._places] if models is None else models
        before: int = sum(self._places[model].bisect_left(job.seq) for model in asked)
        return before + 1

    def _come_due(self, models: Collection[str], now: float) -> None:
        self._now = max(self._now, now)
        for model in models:
            later = self._later.get(model)
            while later and later[0][0] <= self._now:
                self._due[model].add(later.pop(0)[1])

    def _offer(self, job: Job) -> None:
        if job.retry <= self._now:
            self._due[job.model].add(job.seq)
        else:
            self._later[job.model].add((job.retry, job.seq))

    def _withdraw(self, job: Job) -> None:
        later = self._later[job.model]
        if (job.retry, job.seq) in later:
            later.remove((job.retry, job.seq))
        else:
            self._due[job.model].remove(job.seq)
