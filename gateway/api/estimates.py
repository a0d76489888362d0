"""How long callers' jobs will take: what policy foretells, worked out once for all who ask."""

from collections.abc import Callable, Mapping, Sequence

from gateway.clock import Clock
from gateway.job import Job, State
from gateway.ledger.live import Live
from gateway.policy.dispatch import Rules, View
from gateway.policy.estimate import Forecast, Line, fetching, forecast, line

LONGEST = 1.0
"""Seconds that a forecast holds, if nothing is committed."""

WORK = 0.0002
"""Seconds, for each slot, that a forecast holds at least: many accounts commit all the time."""


class Estimates:
    """`views`: what each account's loop sees now, by name. Wire `forget` to commits."""

    def __init__(
        self,
        live: Live,
        clock: Clock,
        rules: Mapping[str, Rules],
        views: Callable[[], Sequence[View]],
    ) -> None:
        self._live = live
        self._clock = clock
        self._rules = rules
        self._views = views
        self._expected = next(iter(rules.values())).polling.expected
        self._least = WORK * sum(rule.concurrent for rule in rules.values())
        self._stale = True
        self._made = 0.0
        self._forecasts: dict[str, Forecast] = {}
        self._line = Line((), 0.0)
        self._latency = 0.0

    def forget(self, _change: object = None) -> None:
        """Something was committed."""
        self._stale = True

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
        usual = self._live.lately.usual((job.model, job.seconds), self._expected)
        match job.state:
            case State.QUEUED:
                self._look(now)
                sent = self._line.sent(self._live.line.position(job))
                if sent is None:
                    return None
                return max(sent, job.retry) + self._latency / 2 + usual.held + usual.fetch()
            case State.SUBMITTING:
                return (job.submitted or now) + usual.held + usual.fetch()
            case State.RUNNING:
                self._look(now)
                return self._forecasts[job.account or ""].done.get(job.id)
            case State.FETCHING:
                return fetching(usual, job.finished or now, job.retry, now)
        return None

    def _look(self, now: float) -> None:
        """Work out the forecasts anew, if something may have changed."""
        age = now - self._made
        if age < LONGEST and not (self._stale and age >= self._least):
            return
        usual = self._live.lately.usual(None, self._expected)
        views = self._views()
        self._forecasts = {
            view.account.name: forecast(view, self._rules[view.account.name], usual)
            for view in views
        }
        self._line = line([*self._forecasts.values()])
        self._latency = sum(view.latency for view in views) / len(views)
        self._stale, self._made = False, now
