"""When to poll one running video.

Never twice within `interval`, once for all of its callers. Otherwise at the moment that costs
least: a look before the end costs a place in the window and forbids the next one for `interval`; a
look after it leaves a slot idle for as long as it is late. What a look will tell of the progress
makes the next one better, so an early one may pay. `docs/polling.md` explains the arithmetic.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from gateway.job import Look
from gateway.policy.belief import Belief, Habit, Noise, believe, precision
from gateway.policy.window import later

PRICE = 0.051
"""What a look that finds a video unfinished costs beside its delay, in intervals of an idle slot:
4.6 calls a video, of 240 s each (docs/performance.md).
"""

BLIND_PRICE = 0.02
"""The same where nothing is told of the progress: 5.4 calls."""

_LEAST_DELAY = (
    (0.0, 0.0), (0.01, 0.030), (0.02, 0.056), (0.05, 0.122), (0.1, 0.214), (0.2, 0.353),
    (0.35, 0.469), (0.5, 0.493), (1.0, 0.5),
)  # fmt: skip
"""By the deviation of a normal belief: the mean delay of the best looks that nothing is told by;
both in intervals. Found by trying (`tests/policy/test_polling.py`).
"""


@dataclass(frozen=True, slots=True)
class PollingRule:
    """Seconds. `interval` is least between two polls of one video; `expected` is what a video
    usually takes, until that is known.
    """

    interval: float
    expected: float
    max_wait: float
    task_life: float


@dataclass(frozen=True, slots=True)
class Running:
    """A video that upstream is working on. `submitted`: about when upstream took it; `polled`: when
    the last poll ended, before that if it was adopted; `looks`: what its polls found.
    """

    job_id: str
    submitted: float
    polled: float | None
    looks: tuple[Look, ...]
    habit: Habit

    def begun(self, latency: float) -> float:
        """When a poll would have to begin to look at its moment 0: upstream looks half-way."""
        return self.submitted - latency / 2

    def belief(self, latency: float) -> Belief:
        """What is known of how long it takes."""
        return believe(self.habit, self.looks, _blur(latency))


def may_poll(video: Running, rule: PollingRule) -> float:
    """The earliest moment of its next poll. An overdue one is polled half as often, and still
    waited for: it is paid for.
    """
    if video.polled is None:
        return video.submitted
    overdue = video.polled - video.submitted > rule.max_wait
    return later(video.polled, rule.interval * (2 if overdue else 1))


def when_to_poll(
    video: Running, rule: PollingRule, latency: float, since: float = 0.0, price: float = PRICE
) -> float:
    """The best moment of its next poll, not before `since`. `latency`: seconds that a call takes;
    upstream is taken to look half-way. `price`: see `PRICE`. A task that was adopted, since nobody
    knows when it began, goes at once.
    """
    earliest = max(may_poll(video, rule), since)
    if video.polled is not None and video.polled < video.submitted:
        return earliest
    begun = video.begun(latency)
    elapsed = max(earliest - begun, 0.0)
    if elapsed > rule.max_wait:
        return earliest
    between = rule.interval + latency  # from the end of one poll to the begin of the next
    asked = video.habit, video.looks, _blur(latency), between, price * rule.interval
    return max(begun + _best_look(*asked, elapsed), earliest)


def _blur(latency: float) -> float:
    """The deviation of the moment at which upstream looks, between a call's begin and end: 0.29 of
    it, and as much again for when it took the video.
    """
    return 0.02 + 0.4 * latency


@lru_cache(16384)
def _best_look(
    habit: Habit,
    looks: tuple[Look, ...],
    blur: float,
    interval: float,
    price: float,
    earliest: float,
) -> float:
    return _outlook(habit, looks, blur, interval, price).best(earliest)


@lru_cache(1024)
def _outlook(
    habit: Habit, looks: tuple[Look, ...], blur: float, interval: float, price: float
) -> "Outlook":
    return Outlook(believe(habit, looks, blur), habit.noise, blur, interval, price)


class Outlook:
    """What the next look at a video costs, in seconds of an idle slot, by its moment, in seconds
    since upstream took it: how late it comes; its price, if it finds the video unfinished; and then
    what comes after it.

    What comes after is the lesser of two: going on with looks that tell nothing but whether it is
    finished; or one that goes by what this look will tell, perhaps after another one.
    """

    def __init__(
        self, belief: Belief, noise: Noise, blur: float, interval: float, price: float
    ) -> None:
        self._belief = belief
        self._noise = noise
        self._blur = blur
        self._interval = interval
        self._price = price
        self._known = max(belief.deviation, 1e-6) ** -2
        self._blind = _blind(belief, interval, self._price)
        edges = belief.edges
        self._moments = array("d", sorted({*edges, *(edge - interval for edge in edges)}))
        self._best = array("d", self._moments)
        """From each moment on."""
        least = math.inf
        for index, moment in reversed([*enumerate(self._moments)]):
            cost = self.cost(moment)
            if cost <= least:
                least = cost
            else:
                self._best[index] = self._best[index + 1]

    def best(self, earliest: float) -> float:
        """The moment of the look that costs least."""
        index = bisect_right(self._moments, earliest)
        if index == len(self._moments):
            return earliest
        return min(earliest, self._best[index], key=self.cost)

    def cost(self, moment: float) -> float:
        """Of a look then."""
        belief, interval = self._belief, self._interval
        finished, late = belief.lateness(moment)
        rest = _between(belief.edges, self._blind, moment)
        if self._noise.tells:
            soon, waited = belief.lateness(moment + interval)
            far = belief.chance(moment + 2 * interval)
            once = self._known + self._told(moment)
            one = interval * _least_delay(once**-0.5 / interval)
            last = belief.mean - interval - 2 * once**-0.5  # an interval before it can be finished
            twice = once + self._told(max(last, moment))
            two = self._price + interval * _least_delay(twice**-0.5 / interval)
            guided = waited - late - interval * finished
            guided += (far - soon) * one + (1 - far) * min(one, two)
            rest = min(rest, guided)
        return late + (1.0 - finished) * self._price + rest

    def _told(self, moment: float) -> float:
        """The weight (deviation ** -2) of what a look then will tell."""
        if moment <= 0.0:
            return 0.0
        mean = self._belief.mean
        progress = min(100.0 * moment / mean, 99.0)
        return (mean * precision(moment, progress, self._noise, self._blur)) ** -2


def _between(edges: Sequence[float], values: Sequence[float], moment: float) -> float:
    """In proportion between the values at the edges; at the ends and beyond, as there."""
    index = bisect_right(edges, moment)
    if index == 0 or index == len(edges):
        return values[min(index, len(edges) - 1)]
    low, high = edges[index - 1], edges[index]
    part = (moment - low) / (high - low)
    return values[index - 1] + part * (values[index] - values[index - 1])


def _blind(belief: Belief, interval: float, price: float) -> Sequence[float]:
    """For a look at each edge that finds it unfinished: the least cost of all that follow, if they
    tell nothing but that, times the chance of it.
    """
    edges = belief.edges
    costs = array("d", bytes(8 * len(edges)))
    for index in reversed(range(len(edges) - 1)):
        finished, late = belief.lateness(edges[index])
        least = math.inf
        soonest = edges[index] + interval
        for then in (soonest, *edges[bisect_right(edges, soonest) :]):
            found, waited = belief.lateness(then)
            waited -= late + (then - edges[index]) * finished
            if waited > least:
                break
            least = min(least, waited + (1.0 - found) * price + _between(edges, costs, then))
        costs[index] = least
    return costs


def _least_delay(deviation: float) -> float:
    """See `_LEAST_DELAY`."""
    for (low, at_low), (high, at_high) in pairwise(_LEAST_DELAY):
        if deviation <= high:
            return at_low + (at_high - at_low) * (deviation - low) / (high - low)
    return 0.5
