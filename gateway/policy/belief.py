"""What is known of how long one video will take: a posterior over its generation time.

Before the first look the logarithm of the seconds is normal, as lately finished videos of the kind
were (`Habit`). Each look that found the video unfinished cuts off what is shorter, and weighs the
rest by how well it goes with the progress told: 100 * elapsed / seconds, rounded down, blurred by
upstream's noise and by not knowing when within its call upstream looked. `docs/polling.md` has the
arithmetic and a picture of it.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gateway.job import Look

POINTS = 48
"""Seconds at which a belief is kept: 4.5 standard deviations to each side."""

_TAIL = 1e-4
"""The weight, beside a density of 1 at the mean, of what no habit foretells."""

_ODD = 1e-4
"""The likelihood of a progress that has nothing to do with the truth: it may jump or stay at 0."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How videos of a kind behave: `mean` and `spread` of the logarithm of their seconds; `noise`,
    the standard deviation of the progress told, in points (infinity: it tells nothing).
    """

    mean: float
    spread: float
    noise: float


class Belief:
    """`chance` and `lateness` of a moment, in seconds since upstream took the video."""

    __slots__ = ("_lateness", "_shares", "deviation", "mean", "points")

    def __init__(self, points: "array[float]", weights: Sequence[float]) -> None:
        self.points = points
        whole = math.fsum(weights)
        share = lateness = squares = 0.0
        self._shares, self._lateness = array("d", (0.0,)), array("d", (0.0,))
        for point, weight in zip(points, weights, strict=True):
            share += weight / whole
            lateness += weight * point / whole
            squares += weight * point * point / whole
            self._shares.append(share)
            self._lateness.append(lateness)
        self.mean = lateness
        self.deviation = math.sqrt(max(squares - lateness * lateness, 0.0))

    def chance(self, moment: float) -> float:
        """How probably it is finished by then."""
        return self._shares[bisect_right(self.points, moment)]

    def moment(self, chance: float) -> float:
        """By when it is finished with this chance."""
        index = min(bisect_right(self._shares, chance), len(self.points))
        before, after = self._shares[index - 1], self._shares[min(index, len(self._shares) - 1)]
        low = self.points[max(index - 2, 0)]
        high = self.points[index - 1]
        part = (chance - before) / (after - before) if after > before else 1.0
        return min(low + (high - low) * part, high)

    def lateness(self, moment: float) -> tuple[float, float]:
        """The chance that it is finished by then, and for how long it has been, on average over
        that and no time.
        """
        count = bisect_right(self.points, moment)
        return self._shares[count], moment * self._shares[count] - self._lateness[count]


@lru_cache(8192)
def believe(habit: Habit, looks: tuple[Look, ...], blur: float) -> Belief:
    """The belief after these looks, each of which found the video unfinished. `blur`: seconds, the
    standard deviation of when within a call upstream looked.
    """
    told = [look for look in looks if look.progress is not None and habit.noise < math.inf]
    after = max((look.elapsed for look in looks), default=0.0)
    mean, deviation = _roughly(habit, told, blur)
    low, high = mean - 4.5 * deviation, mean + 4.5 * deviation
    if after > 0.0 and math.log(after) > low:
        low = math.log(after)
        if low > mean + 3.0 * deviation:  # it takes longer than it should
            high = low + habit.spread
    step = (high - low) / POINTS
    points = array("d", (math.exp(low + step * (index + 0.5)) for index in range(POINTS)))
    return Belief(points, [_weight(habit, told, blur, point) for point in points])


def likelihood(look: Look, seconds: float, noise: float, blur: float) -> float:
    """Of the progress that a look was told, if the video takes so many seconds."""
    progress, right = look.progress or 0, 100.0 * look.elapsed / seconds
    scale = math.sqrt(2.0) * max(math.hypot(noise, 100.0 * blur / seconds), 0.02)
    return 0.5 * math.erfc((progress - right) / scale) - 0.5 * math.erfc(
        (progress + 1 - right) / scale
    )


def _weight(habit: Habit, told: Sequence[Look], blur: float, seconds: float) -> float:
    away = (math.log(seconds) - habit.mean) / habit.spread
    weight = math.exp(-0.5 * away * away) + _TAIL
    for look in told:
        weight *= likelihood(look, seconds, habit.noise, blur) + _ODD
    return weight


def _roughly(habit: Habit, told: Sequence[Look], blur: float) -> tuple[float, float]:
    """Mean and deviation of the logarithm, as if all were normal: where to look closely."""
    weight = habit.spread**-2
    total = habit.mean * weight
    for look in told:
        if not look.progress or look.elapsed <= 0.0:
            continue
        says = math.log(100.0 * look.elapsed / (look.progress + 0.5))
        deviation = precision(look.elapsed, look.progress, habit.noise, blur)
        if abs(says - habit.mean) < 4.0 * math.hypot(habit.spread, deviation):
            weight += deviation**-2
            total += says / deviation**2
    return total / weight, weight**-0.5


def precision(elapsed: float, progress: float, noise: float, blur: float) -> float:
    """The standard deviation of the logarithm of the seconds that one look's progress tells."""
    return math.hypot((noise + 0.3) / (progress + 0.5), blur / elapsed)
