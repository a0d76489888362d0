"""When to poll one running video.

Never twice within `interval`, once for all of its callers. Otherwise at the moment that costs
least: a look before the end costs a place in the window and forbids the next one for `interval`; a
look after it leaves a slot idle for as long as it is late. What a look will tell of the progress
makes the next one better, so an early one may pay. `docs/polling.md` explains the arithmetic.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from gateway.job import Look
from gateway.policy.belief import Belief, Habit, believe, precision

PRICE = 1.4
"""What a look costs beside its delay, in idle seconds of a slot: 4.6 calls a video, 240 s each."""

CROWDED_PRICE = 10.0
"""The same while a look would take a place that calls soon to come need."""

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
    the last poll ended; `looks`: what its polls found.
    """

    job_id: str
    submitted: float
    polled: float | None
    looks: tuple[Look, ...]
    habit: Habit

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
    return video.polled + rule.interval * (2 if overdue else 1)


def when_to_poll(
    video: Running, rule: PollingRule, latency: float, since: float = 0.0, price: float = PRICE
) -> float:
    """The best moment of its next poll, not before `since`. `latency`: seconds that a call takes;
    upstream is taken to look half-way.
    """
    earliest = max(may_poll(video, rule), since)
    elapsed = earliest + latency / 2 - video.submitted
    if elapsed > rule.max_wait:
        return earliest
    between = rule.interval + latency  # from the end of one poll to the begin of the next
    best = _best_look(video.habit, video.looks, _blur(latency), max(elapsed, 0.0), between, price)
    return max(video.submitted + best - latency / 2, earliest)


def _blur(latency: float) -> float:
    """The deviation of the moment at which upstream looks, between a call's begin and end: 0.29 of
    it, and as much again for when it took the video.
    """
    return 0.05 + 0.4 * latency


@lru_cache(16384)
def _best_look(
    habit: Habit,
    looks: tuple[Look, ...],
    blur: float,
    earliest: float,
    interval: float,
    price: float,
) -> float:
    """The moment, in seconds since upstream took the video, at which a look costs least."""
    belief = believe(habit, looks, blur)
    moments = [earliest, *(moment for moment in _moments(belief, interval) if moment > earliest)]
    cost = _cost(belief, habit.noise, blur, interval, price)
    return min(moments, key=cost)


def _moments(belief: Belief, interval: float) -> Iterator[float]:
    """Those worth thinking of: when it may be finished, and an interval before."""
    for point in belief.points:
        yield point
        yield point - interval


def _cost(
    belief: Belief, noise: float, blur: float, interval: float, price: float
) -> Callable[[float], float]:
    """The expected cost of a next look, as a function of its moment: how late it comes, its price,
    and what comes after it if the video is not finished then.

    What comes after is the lesser of two: going on with looks that tell nothing but whether it is
    finished; or one that goes by what this look will tell, perhaps after another one.
    """
    blind = _blind(belief, interval, price)

    def told(moment: float) -> float:
        """The weight (deviation ** -2) of what a look then will tell."""
        if noise == math.inf:
            return 0.0
        progress = min(100.0 * moment / belief.mean, 99.0)
        return (belief.mean * precision(max(moment, 0.1), progress, noise, blur)) ** -2

    known = max(belief.deviation, 1e-3) ** -2

    def cost(moment: float) -> float:
        finished, late = belief.lateness(moment)
        after = bisect_right(belief.points, moment) - 1
        rest = blind[max(after, 0)]
        if noise < math.inf:
            soon, later = belief.lateness(moment + interval)
            far = belief.chance(moment + 2 * interval)
            once = known + told(moment)
            one = interval * _least_delay(once**-0.5 / interval)
            last = belief.mean - interval - 2 * once**-0.5  # an interval before it can be finished
            twice = once + told(max(last, 1.0))
            two = price + interval * _least_delay(twice**-0.5 / interval)
            guided = later - late - interval * finished + (1 - finished) * price
            guided += (far - soon) * one + (1 - far) * min(one, two)
            rest = min(rest, guided)
        return late + price + rest

    return cost


def _blind(belief: Belief, interval: float, price: float) -> list[float]:
    """For a look at each point that finds it unfinished: the least cost of all that follow, if they
    tell nothing but that, times the chance of it.
    """
    points = belief.points
    found = [belief.lateness(point) for point in points]
    costs = [0.0] * len(points)
    for index in reversed(range(len(points))):
        finished, late = found[index]
        if finished > 1 - 1e-6:
            continue
        least = math.inf
        for then in range(bisect_left(points, points[index] + interval), len(points)):
            later = found[then][1] - late - (points[then] - points[index]) * finished
            least, before = min(least, later + costs[then]), least
            if later > before:
                break
        least = (1 - finished) * interval / 2 if least == math.inf else least
        costs[index] = least + price * (1 - finished)
    return costs


def _least_delay(deviation: float) -> float:
    """See `_LEAST_DELAY`."""
    for (low, at_low), (high, at_high) in pairwise(_LEAST_DELAY):
        if deviation <= high:
            return at_low + (at_high - at_low) * (deviation - low) / (high - low)
    return 0.5
