"""What is known of how long one video will take: a posterior over its generation time.

Before the first look the logarithm of the seconds is normal, as lately finished videos of the kind
were (`Habit`). Each look that found the video unfinished cuts off what is shorter, and weighs the
rest by how well it goes with the progress told: 100 * elapsed / seconds, rounded down, blurred by
upstream's noise and by not knowing when within its call upstream looked. `docs/polling.md` has the
arithmetic and a picture of it.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gateway.job import Look

CELLS = 48
"""Of a belief: 4.5 standard deviations to each side, evenly by the logarithm of the seconds."""

_TAIL = 1e-4
"""The weight, beside a density of 1 at the mean, of what no habit foretells."""

_ODD = 1e-4
"""The likelihood of a progress that has nothing to do with the truth: it may jump or stay at 0."""


class Noise(NamedTuple):
    """What upstream does to progress before it tells it, in points: adds what is normal, with this
    standard deviation, or `even`, up to so many more or less, each as likely.
    """

    normal: float
    even: int = 0

    @property
    def tells(self) -> bool:
        """Whether progress has anything to do with the truth."""
        return self.normal < math.inf


SILENT = Noise(math.inf)


@dataclass(frozen=True, slots=True)
class Habit:
    """How videos of a kind behave: `mean` and `spread` of the logarithm of their seconds, and the
    `noise` of their progress.
    """

    mean: float
    spread: float
    noise: Noise

    @property
    def seconds(self) -> float:
        """How long one takes, on average."""
        return math.exp(self.mean + self.spread**2 / 2)


class Belief:
    """`chance` and `lateness` of a moment, in seconds since upstream took the video. `edges` are
    those of the cells: within one each moment is as likely as any other.
    """

    __slots__ = ("_chances", "_lateness", "deviation", "edges", "mean")

    def __init__(self, edges: "array[float]", weights: Sequence[float]) -> None:
        self.edges = edges
        whole = math.fsum(weights)
        chance = lateness = mean = squares = 0.0
        self._chances, self._lateness = array("d", (0.0,)), array("d", (0.0,))
        for (low, high), weight in zip(pairwise(edges), weights, strict=True):
            share, middle, width = weight / whole, (low + high) / 2, high - low
            lateness += width * (chance + share / 2)
            chance += share
            mean += share * middle
            squares += share * (middle * middle + width * width / 12)
            self._chances.append(chance)
            self._lateness.append(lateness)
        self.mean = mean
        self.deviation = math.sqrt(max(squares - mean * mean, 0.0))

    def chance(self, moment: float) -> float:
        """How probably it is finished by then."""
        return self.lateness(moment)[0]

    def moment(self, chance: float) -> float:
        """By when it is finished with this chance."""
        index = bisect_left(self._chances, chance, 1, len(self._chances) - 1)
        (before, after), (low, high) = (
            self._chances[index - 1 : index + 1],
            self.edges[index - 1 : index + 1],
        )
        part = (chance - before) / (after - before) if after > before else 1.0
        return min(low + (high - low) * part, high)

    def lateness(self, moment: float) -> tuple[float, float]:
        """The chance that it is finished by then, and for how long it has been, on average over
        that and no time.
        """
        edges, index = self.edges, bisect_right(self.edges, moment)
        if index == 0:
            return 0.0, 0.0
        chance, late = self._chances[index - 1], self._lateness[index - 1]
        into = moment - edges[index - 1]
        if index == len(edges):
            return 1.0, late + into
        more = (self._chances[index] - chance) * into / (edges[index] - edges[index - 1])
        return chance + more, late + into * (chance + more / 2)


@lru_cache(8192)
def believe(habit: Habit, looks: tuple[Look, ...], blur: float) -> Belief:
    """The belief after these looks, each of which found the video unfinished. `blur`: seconds, the
    standard deviation of when within a call upstream looked.
    """
    told = [look for look in looks if look.progress is not None and habit.noise.tells]
    after = max((look.elapsed for look in looks), default=0.0)
    mean, deviation = _roughly(habit, told, blur)
    low, high = mean - 4.5 * deviation, mean + 4.5 * deviation
    if after > 0.0 and math.log(after) > low:
        low = math.log(after)
        if low > mean + 3.0 * deviation:  # it takes longer than it should
            high = low + habit.spread
    step = (high - low) / CELLS
    edges = array("d", (math.exp(low + step * index) for index in range(CELLS + 1)))
    middles = (math.exp(low + step * (index + 0.5)) for index in range(CELLS))
    return Belief(edges, [_weight(habit, told, blur, middle) for middle in middles])


def likelihood(look: Look, seconds: float, noise: Noise, blur: float) -> float:
    """Of the progress that a look was told, if the video takes so many seconds."""
    progress, right = look.progress or 0, 100.0 * look.elapsed / seconds
    scale = math.sqrt(2.0) * max(math.hypot(noise.normal, 100.0 * blur / seconds), 0.02)
    least, most = progress - noise.even, progress + 1 + noise.even
    told = math.erfc((least - right) / scale) - math.erfc((most - right) / scale)
    return 0.5 * told / (most - least)


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


def precision(elapsed: float, progress: float, noise: Noise, blur: float) -> float:
    """The standard deviation of the logarithm of the seconds that one look's progress tells."""
    points = noise.normal + 0.3 * (1 + 2 * noise.even)
    return math.hypot(points / (progress + 0.5), blur / elapsed)
