"""What the latest finished videos teach about the next: how long they take and what their progress
is worth.

Kinds are told apart by upstream, model and seconds. Medians and quartiles, so that a few odd ones
change little; a few imagined videos of `expected` seconds stand for what is not known yet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from gateway.job import Look
from gateway.policy.belief import SILENT, Habit, Noise, believe, likelihood

MOST_LESSONS = 40
"""How many finished videos of a kind are remembered."""

NOISES = (
    *(Noise(0.0, even) for even in (0, 1, 2, 3, 5)),
    *map(Noise, (0.5, 1.5, 4.0, 12.0)),
    SILENT,
)
"""Those among which the likeliest is chosen."""

_IMAGINED = 2
"""How many videos of `expected` seconds are taken as seen."""

_SPREAD = 0.5
"""Of the logarithm of the seconds, before anything is known."""

_NOISE = Noise(1.5)
"""Of the progress, before anything is known."""

_LEAST_SPREAD = 0.03

_POINTS = 40
"""Between the last look that found a video unfinished and the one that found it finished."""

_BLUR = 0.5
"""Seconds: see `belief.believe`; of calls of a second or so."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one finished video taught: about how many `seconds` it took, and the logarithm of the
    likelihood of what it told, for each of NOISES.
    """

    seconds: float
    fits: tuple[float, ...]


def unknown(expected: float) -> Habit:
    """The habit of videos of which none has been seen."""
    return Habit(math.log(expected), _SPREAD, _NOISE)


def lesson(habit: Habit, looks: Sequence[Look]) -> Lesson | None:
    """What a finished video teaches; the last of its `looks` found it finished."""
    *before, found = looks
    if found.elapsed <= 0.0:
        return None
    least = before[-1].elapsed if before else 0.0
    fits = tuple(_fit(before, least, found.elapsed, noise) for noise in NOISES)
    wide = max(habit.spread, _SPREAD)  # or what is believed would teach itself
    belief = believe(Habit(habit.mean, wide, habit.noise), tuple(before), _BLUR)
    finished, late = belief.lateness(found.elapsed)
    seconds = found.elapsed - late / finished if finished > 1e-3 else (least + found.elapsed) / 2
    return Lesson(max(seconds, 1e-3), fits)


def learn(lessons: Sequence[Lesson], expected: float) -> Habit:
    """The habit that these lessons teach, the latest of a kind."""
    if not lessons:
        return unknown(expected)
    logs = sorted(math.log(each.seconds) for each in lessons)
    weight = len(logs) / (len(logs) + _IMAGINED)
    mean = weight * median(logs) + (1 - weight) * math.log(expected)
    if len(logs) < 4:
        spread = _SPREAD
    else:
        spread = math.sqrt(weight * deviation(logs) ** 2 + (1 - weight) * _SPREAD**2)
    totals = [math.fsum(each.fits[index] for each in lessons) for index in range(len(NOISES))]
    noise = NOISES[totals.index(max(totals))] if any(totals) else _NOISE
    return Habit(round(mean, 3), round(max(spread, _LEAST_SPREAD), 3), noise)


def deviation(values: Sequence[float]) -> float:
    """The standard deviation by the quartiles, if most of the values are normal: odd ones change
    little.
    """
    first, _, third = quantiles(values, n=4)
    return (third - first) / 1.349


def differs(one: Habit, other: Habit) -> bool:
    """Whether it matters: what was worked out for a habit holds as long as it doesn't."""
    return (
        one.noise != other.noise
        or abs(one.mean - other.mean) > 0.1 * one.spread
        or not 0.85 < one.spread / other.spread < 1.18
    )


def _fit(looks: Sequence[Look], least: float, most: float, noise: Noise) -> float:
    """The logarithm of the likelihood of what was told, if any time from `least` to `most` is as
    likely as any other.
    """
    total = 0.0
    for index in range(_POINTS):
        seconds = least + (most - least) * (index + 0.5) / _POINTS
        told = 1.0
        for look in looks:
            if look.progress is None:
                told *= 0.2 if noise.tells else 1.0
            elif not noise.tells:
                told *= 0.01
            else:
                told *= likelihood(look, seconds, noise, _BLUR) + 1e-4
        total += told / _POINTS
    return math.log(total + 1e-12)
