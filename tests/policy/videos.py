"""Videos as upstream makes them, and whatever it may tell of them."""

import math
from collections.abc import Iterable
from random import Random

from hypothesis import strategies as st

from gateway.job import MOST_LOOKS, Look
from gateway.policy.belief import Habit
from gateway.policy.habit import NOISES

habits = st.builds(
    Habit,
    st.floats(math.log(5.0), math.log(3000.0)),
    st.floats(0.03, 0.5),
    st.sampled_from(NOISES),
)
"""Any that lessons may teach."""

progress = st.one_of(st.none(), st.sampled_from([0, 50, 100]), st.integers(0, 100))

moments = st.floats(0.0, 5000.0).map(lambda moment: round(moment, 6))

looked = st.lists(st.tuples(moments, progress), max_size=MOST_LOOKS).map(
    lambda found: tuple(Look(*look) for look in sorted(found, key=lambda look: look[0]))
)
"""What looks may have found, true or not."""


def video(seconds: float, moments: Iterable[float]) -> tuple[Look, ...]:
    """What upstream tells truly, each time before the end."""
    return tuple(Look(at, math.floor(100 * at / seconds)) for at in moments)


def finished(random: Random, kind: str, mean: float, spread: float) -> tuple[Look, ...]:
    """All that was told of one video, looked at every 40 s or so; the last look found its end.
    `kind`: `exact`, `+-2`, `none` or `stuck` at 0.
    """
    seconds = mean * math.exp(random.gauss(0.0, spread))
    looks, at = list[Look](), mean * random.uniform(0.15, 0.4)
    while at < seconds:
        right = 100 * at / seconds
        told = {
            "exact": math.floor(right),
            "+-2": max(0, min(99, math.floor(right + random.uniform(-2.0, 2.0)))),
            "none": None,
            "stuck": 0,
        }[kind]
        looks.append(Look(at, told))
        at += mean / 6 * random.uniform(0.9, 1.1)
    return (*looks[1 - MOST_LOOKS :], Look(at, 100))
