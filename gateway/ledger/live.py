"""What is under way, in memory: the jobs that are not over, the places taken, how accounts fare,
the callers' keys.

A picture of what is committed, brought up to date by each commit before anyone who waits for it
goes on. A restart reads it again, all but how soon slots are refilled.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from gateway.job import TERMINAL, Account, Call, Job, JobMoved, Key, Kind, State
from gateway.ledger.history import History
from gateway.ledger.lately import Lately
from gateway.ledger.line import Line
from gateway.ledger.transitions import Change
from gateway.outcome import Verdict

LATENCY_STEP = 0.2
"""Seconds: a latency that changes by less than this changes nothing that was worked out."""

LONGEST_LATENCY = 5.0
"""Seconds: a call that took longer tells of trouble, not of how long calls take."""


class AccountBook:
    """One account's part: its tasks, its calls that still take a place, its slots of unknown
    fate.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.tasks: dict[str, Job] = {}
        """Jobs in submitting, running or fetching, by id."""
        self.lost: dict[str, Job] = {}
        """Completed jobs whose content is to be fetched again."""
        self.calls: dict[int, Call] = {}
        """Calls that take a place in the window, or did a short while ago."""
        self.latest: Call | None = None
        """The call that was reserved last."""
        self.ghosts: dict[int, float] = {}
        """Submits of unknown outcome, by their call's id: until when each keeps its slot."""
        self.latency = 0.0
        """Seconds that polls took lately, in steps of `LATENCY_STEP`."""
        self._took = 0.0
        self.probed = -math.inf
        """When an id that can't exist was last asked about."""

    def take(self, call: Call) -> None:
        """A call that was reserved, or has ended."""
        if self.latest is None or self.latest.id <= call.id:
            self.latest = call
        if call.touched:
            self.calls[call.id] = call
        else:
            self.calls.pop(call.id, None)
        if call.slot_until is not None:
            self.ghosts[call.id] = call.slot_until
        if call.kind is Kind.POLL and call.ended is not None and call.touched:
            took = min(call.ended - call.reserved, LONGEST_LATENCY)
            self._took += (took - self._took) / (8 if self._took else 1)
            if abs(self._took - self.latency) > LATENCY_STEP:
                self.latency = round(self._took / LATENCY_STEP) * LATENCY_STEP
        if call.job_id is None:
            self.probed = max(self.probed, call.reserved)

    def open_calls(self) -> list[Call]:
        """Calls that have not ended."""
        return [call for call in self.calls.values() if call.ended is None]

    def is_making(self, kind: Kind) -> bool:
        """Whether a call of this kind is under way."""
        return any(call.kind is kind for call in self.open_calls())

    def slots_taken(self, now: float) -> int:
        """Videos that upstream works on, or may work on."""
        working = (State.SUBMITTING, State.RUNNING)
        tasks = sum(job.state in working for job in self.tasks.values())
        return tasks + self.slots_of_unknown(now)

    def slots_of_unknown(self, now: float) -> int:
        """Slots that submits of unknown outcome keep."""
        return sum(until > now for until in self.ghosts.values())

    def overdue(self, now: float, max_wait: float) -> int:
        """Videos that upstream takes longer over than `max_wait` seconds: still waited for."""
        running = (job for job in self.tasks.values() if job.state is State.RUNNING)
        return sum(now - (job.submitted or now) > max_wait for job in running)

    def to_fetch(self) -> int:
        """Finished videos that are not here yet."""
        return len(self._fetching())

    def to_fetch_again(self) -> int:
        """Of them, those of which a download has failed."""
        return sum(job.download_failed for job in self._fetching())

    def _fetching(self) -> list[Job]:
        return [job for job in self.tasks.values() if job.state is State.FETCHING]

    def slot_returns(self, now: float) -> float:
        """When the next ghost gives its slot back; infinity: there is none."""
        return min((until for until in self.ghosts.values() if until > now), default=math.inf)

    def forget(self, now: float, keep: float) -> None:
        """Drop calls that ended longer than `keep` seconds ago, and ghosts that are gone."""
        old = [
            i
            for i, call in self.calls.items()
            if call.ended is not None and call.ended + keep < now
        ]
        for i in old:
            del self.calls[i]
        self.ghosts = {call: until for call, until in self.ghosts.items() if until > now}


class Live:
    """All accounts' books, the queue and the keys. Reads are dictionary look-ups.

    `upstreams`: where each account's videos are made, by its name.
    """

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        self.books: dict[str, AccountBook] = {}
        self.jobs: dict[str, Job] = {}
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.queued: Counter[str] = Counter()
        """Jobs that wait, by caller."""
        self.line = Line()
        """The queue."""
        self._lost: dict[str, Job] = {}
        """Completed jobs whose content is to be fetched again, of all accounts."""
        self._keys: dict[str, Key] = {}
        self.history = History(upstreams)
        self.lately = Lately(upstreams)

    def load(
        self,
        jobs: Iterable[Job],
        calls: Iterable[Call],
        accounts: Iterable[Account],
        counts: dict[State, int],
        ghosts: Iterable[Call] = (),
    ) -> None:
        """Read the ledger's picture anew, as at a start. `jobs`: those not over, or lost; `calls`:
        those that take a place; `ghosts`: those that keep a slot.
        """
        self.books = {account.name: AccountBook(account) for account in accounts}
        for job in jobs:
            self._place(job)
        for call in calls:
            self.books[call.account].take(call)
        for call in ghosts:
            self.books[call.account].ghosts[call.id] = call.slot_until or 0.0
        self.counts |= counts

    def load_keys(self, keys: Iterable[Key]) -> None:
        """All keys, revoked ones too, as they are committed now."""
        self._keys = {key.digest: key for key in keys}

    def apply(self, change: Change) -> None:
        """Take in one committed change."""
        for account in change.accounts:
            book = self.books[account.name]
            if account.revision >= book.account.revision:  # else another process wrote since
                book.account = account
        for call in change.calls:
            self.books[call.account].take(call)
        for job in change.jobs:
            self._place(job)
        self.lately.take(change)
        for event in change.events:
            if isinstance(event, JobMoved):
                self.history.take(event)
                if event.before is None:
                    self._count_ended(event.job.id, change)
        for key in change.keys:
            self._keys[key.digest] = key

    def key(self, digest: str) -> Key | None:
        return self._keys.get(digest)

    def find(self, job_id: str) -> Job | None:
        """A job that a call may be made for."""
        return self.jobs.get(job_id) or self._lost.get(job_id)

    def idle(self, book: AccountBook) -> Iterator[Job]:
        """An account's tasks, and its lost content, with no call under way."""
        busy = {call.job_id for call in book.open_calls()}
        jobs = chain(book.tasks.values(), book.lost.values())
        return (job for job in jobs if job.id not in busy)

    def polled(self, book: AccountBook) -> Iterator[Job]:
        """An account's running videos whose poll is under way."""
        polls = (call.job_id for call in book.open_calls() if call.kind is Kind.POLL)
        return (book.tasks[job_id] for job_id in polls if job_id in book.tasks)

    def fetched_in_vain(self, book: AccountBook) -> bool:
        """Whether an account's latest call was a download that failed, or one made again after such
        a failure.
        """
        latest = book.latest
        if latest is None or latest.kind is not Kind.DOWNLOAD:
            return False
        if latest.ended is not None:
            return latest.outcome != Verdict.FETCHED
        job = self.find(latest.job_id or "")
        return job is not None and job.download_failed

    def unfinished(self) -> int:
        """Videos that may still need room on the disk, of all accounts."""
        return len(self.jobs) - len(self.line) + self.line.claimed

    def fetching(self) -> Iterator[Job]:
        """Jobs whose content is on its way here."""
        return (job for job in self.jobs.values() if job.state is State.FETCHING)

    def _place(self, job: Job) -> None:
        """Put a job where its state says, and take it from where it was."""
        before = self.jobs.pop(job.id, None)
        if before is not None:
            self.counts[before.state] -= 1
        if before is not None or job.state not in TERMINAL:  # else it was counted when it ended
            self.counts[job.state] += 1
        if before is not None and before.state is job.state is State.QUEUED:
            self.jobs[job.id] = job
            self.line.update(job)
            return
        if before is not None:
            self._take(before)
        if job.state in TERMINAL:
            self._place_terminal(job)
            return
        self.jobs[job.id] = job
        if job.state is State.QUEUED:
            self.line.add(job)
            self.queued[job.caller] += 1
        elif job.account is not None:
            self.books[job.account].tasks[job.id] = job

    def _place_terminal(self, job: Job) -> None:
        if (before := self._lost.pop(job.id, None)) and before.account is not None:
            self.books[before.account].lost.pop(job.id, None)
        if job.content_lost and job.account is not None:
            self._lost[job.id] = self.books[job.account].lost[job.id] = job

    def _count_ended(self, job_id: str, change: Change) -> None:
        """Count a new job that is over already: another process deleted it before it was shown."""
        for job in change.jobs:
            if job.id == job_id and job.state in TERMINAL:
                self.counts[job.state] += 1

    def _take(self, job: Job) -> None:
        if job.state is State.QUEUED:
            self.line.remove(job)
            self.queued[job.caller] -= 1
        elif job.account is not None:
            self.books[job.account].tasks.pop(job.id, None)
