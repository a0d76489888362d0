"""Callers' places in line and how long their jobs will take: what policy foretells, worked out once
for all who ask.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from gateway.clock import Clock
from gateway.job import Job, State
from gateway.ledger.lately import has_waited
from gateway.ledger.live import Live
from gateway.policy.dispatch import Rules, View
from gateway.policy.estimate import OUTAGE, Forecast, Line, Usual, fetching, forecast, line

LONGEST = 1.0
"""Seconds that a forecast holds, if nothing is committed."""

WORK = 0.0002
"""Seconds, for each slot, that a forecast holds at least: many accounts commit all the time."""


NOT_SERVED = Forecast(down=True)
"""Of an account that a task was adopted for and this server doesn't serve."""


class Estimates:
    """`rules` and `models` (those that it serves) of each account, by name; `views`: what each
    account's loop sees now. Wire `forget` to commits.
    """

    def __init__(
        self,
        live: Live,
        clock: Clock,
        rules: Mapping[str, Rules],
        models: Mapping[str, Collection[str]],
        views: Callable[[], Sequence[View]],
    ) -> None:
        self._live = live
        self._clock = clock
        self._rules = rules
        self._models = models
        self._views = views
        self._serving: dict[str, list[str]] = {}
        """By model: the accounts that serve it."""
        for name, served in models.items():
            for model in served:
                self._serving.setdefault(model, []).append(name)
        self._least = WORK * sum(rule.concurrent for rule in rules.values())
        self._stale = True
        self._made = 0.0
        self._forecasts: dict[str, Forecast] = {}
        self._lines: dict[str, list[tuple[Line, Collection[str]]]] = {}
        """By model: those that its jobs stand in, and the models whose jobs stand there: see
        `_lines_of`.
        """
        self._latency = 0.0

    def forget(self, _change: object = None) -> None:
        """Something was committed."""
        self._stale = True

    def position(self, job: Job) -> int:
        """A queued job's place in line, 1 for the next: among the jobs that wait for the accounts
        that will probably take it first, those left out that take none now.
        """
        self._look(self._clock.now())
        position, _ = self._place(job)
        return position

    def shown(self, job: Job) -> int | None:
        """Whole seconds for callers, 1 at least; None: it is over, or nobody can tell."""
        seconds = self.seconds(job)
        return None if seconds is None else max(1, round(seconds))

    def seconds(self, job: Job) -> float | None:
        """The median of the seconds until the job is completed."""
        now = self._clock.now()
        done = self._done(job, now)
        return None if done is None else max(done - now, 0.0)

    def _done(self, job: Job, now: float) -> float | None:
        match job.state:
            case State.QUEUED:
                self._look(now)
                _, sent = self._place(job)
                if sent is None:
                    return None
                return self._here(job, max(sent, job.retry) + self._latency / 2)
            case State.SUBMITTING:
                if self._foretold(job, now).down:
                    return None
                return self._here(job, job.submitted or now)
            case State.RUNNING:
                return self._foretold(job, now).done.get(job.id)
            case State.FETCHING:
                if self._foretold(job, now).down or job.misses >= OUTAGE:
                    return None
                usual = self._usual(job, job.submitted or now)
                return fetching(usual, job.finished or now, job.retry, now)
        return None

    def _foretold(self, job: Job, now: float) -> Forecast:
        """Of the account that has the job."""
        self._look(now)
        return self._forecasts.get(job.account or "", NOT_SERVED)

    def _here(self, job: Job, taken: float) -> float:
        """When it will be here, if upstream takes it at `taken`."""
        usual = self._usual(job, taken)
        return taken + usual.held + usual.fetch()

    def _usual(self, job: Job, taken: float) -> Usual:
        """What is usual for its like, if upstream takes it at `taken`."""
        waited = has_waited(job.accepted, taken)
        return self._live.lately.usual_of_sort(job.model, job.seconds, self._expected(job), waited)

    def _look(self, now: float) -> None:
        """Work out the forecasts anew, if something may have changed."""
        age = now - self._made
        if age < LONGEST and not (self._stale and age >= self._least):
            return
        views = self._views()
        self._forecasts = {view.account.name: self._forecast(view) for view in views}
        self._lines.clear()
        self._latency = sum(view.latency for view in views) / len(views)
        self._stale, self._made = False, now

    def _forecast(self, view: View) -> Forecast:
        rules = self._rules[view.account.name]
        lately, expected = self._live.lately, rules.polling.expected
        jobs = [self._live.jobs[video.job_id] for video in (*view.running, *view.polling)]
        held = {job.id: lately.held(job, expected) for job in jobs}
        usual = lately.usual_of_account(view.account.name, expected)
        return forecast(view, rules, usual, held)

    def _expected(self, job: Job) -> float:
        """What the account that has the job, or the first that will take it, takes for usual."""
        names = [job.account] if job.account else self._serving.get(job.model, ())
        return next((self._rules[name].polling.expected for name in names), 0.0)

    def _place(self, job: Job) -> tuple[int, float | None]:
        """Its place in the line that will send it first, and when it will be sent; None: nobody
        can tell. No sooner than if those of its own model alone stood before it.
        """
        places = []
        for among, models in self._lines_of(job.model):
            position = self._live.line.position(job, models)
            sent = among.sent(position)
            places.append((math.inf if sent is None else sent, position))
        (least, _), *lines = places
        sent, position = min(lines)
        sent = max(sent, least)
        return position, None if sent == math.inf else sent

    def _lines_of(self, model: str) -> list[tuple[Line, Collection[str]]]:
        """The lines that a job of this model stands in: in front of all accounts that serve it,
        with jobs of that model alone, and then with all jobs that wait for them; in front of those
        with the same models each; and of all that may take a job that is before it.

        Accounts take jobs from each other's lines. What one line says is too much where others
        take some of the jobs in it, so the least counts.
        """
        if model not in self._lines:
            serving = self._going(self._serving.get(model, []))
            alike: dict[frozenset[str], list[str]] = {}
            for name in serving:
                alike.setdefault(frozenset(self._models[name]), []).append(name)
            wanted = {model}.union(*alike)
            near = {name for each in wanted for name in self._serving.get(each, ())}
            among = self._line(serving)
            lines: list[tuple[Line, Collection[str]]] = [(among, {model}), (among, wanted)]
            if len(alike) > 1:
                lines += [(self._line(names), models) for models, names in alike.items()]
            if len(near) > len(serving):
                lines.append((self._line(self._going([*near])), wanted))
            self._lines[model] = lines
        return self._lines[model]

    def _line(self, names: Sequence[str]) -> Line:
        return line([self._forecasts[name] for name in names])

    def _going(self, names: Sequence[str]) -> Sequence[str]:
        """Those that take jobs now; if there are none, those that are not paused; or else all."""
        going = [name for name in names if self._forecasts[name].freed]
        books = self._live.books
        return going or [name for name in names if not books[name].account.paused] or names
