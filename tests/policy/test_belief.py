"""What is believed of a video's generation time, after whatever was told of it."""

import math
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Look
from gateway.policy.belief import SILENT, Belief, Habit, Noise, believe, likelihood

from .videos import habits, looked, video

HABIT = Habit(math.log(240.0), 0.15, Noise(0.0))
BLUR = 0.05


@given(habit=habits, looks=looked, blur=st.floats(0.05, 2.5))
def test_whatever_is_told_there_is_a_sensible_belief(
    habit: Habit, looks: tuple[Look, ...], blur: float
) -> None:
    belief = believe(habit, looks, blur)
    after = max((look.elapsed for look in looks), default=0.0)
    edges = list(belief.edges)
    assert all(map(math.isfinite, edges))
    assert edges == sorted(edges)
    assert after <= edges[0] * (1 + 1e-9)
    assert edges[0] <= belief.mean <= edges[-1]
    assert 0.0 <= belief.deviation <= edges[-1]


@given(habit=habits, looks=looked, moments=st.lists(st.floats(0.0, 1e5), max_size=20))
def test_the_chance_grows_from_none_to_certainty(
    habit: Habit, looks: tuple[Look, ...], moments: list[float]
) -> None:
    belief = believe(habit, looks, BLUR)
    assert belief.chance(math.inf) == pytest.approx(1.0)
    chances = [belief.chance(moment) for moment in sorted(moments)]
    assert chances == sorted(chances)
    assert all(0.0 <= chance <= 1.0 + 1e-9 for chance in chances)
    after = max((look.elapsed for look in looks), default=0.0)
    assert belief.chance(after) == pytest.approx(0.0, abs=1e-9)


@given(habit=habits, looks=looked, moment=st.floats(0.0, 1e4))
def test_lateness_is_the_mean_time_since_the_end(
    habit: Habit, looks: tuple[Look, ...], moment: float
) -> None:
    belief = believe(habit, looks, BLUR)
    late = 0.0
    for low, high in pairwise(belief.edges):  # within a cell as likely at each moment
        share, until = belief.chance(high) - belief.chance(low), min(moment, high)
        if until > low:
            part = share * (until - low) / (high - low)
            late += part * (moment - (low + until) / 2)
    chance, told = belief.lateness(moment)
    assert chance == belief.chance(moment)
    assert told == pytest.approx(late, rel=1e-6, abs=1e-6 * (moment + belief.edges[-1]))


@given(
    away=st.floats(-2.5, 2.5),
    shares=st.lists(st.floats(0.2, 0.95), min_size=1, max_size=4),
)
def test_an_exact_look_leaves_the_interval_that_its_progress_tells(
    away: float, shares: list[float]
) -> None:
    seconds = math.exp(HABIT.mean + away * HABIT.spread)
    looks = video(seconds, sorted(share * seconds for share in shares))
    belief = believe(HABIT, looks, BLUR)
    lows, highs = zip(
        *((100 * at / ((told or 0) + 1), 100 * at / (told or 1)) for at, told in looks),
        strict=True,
    )
    low, high = max(lows) * 0.97, min(highs) * 1.03  # half a second of a short look is that
    assert low <= belief.mean <= high
    assert belief.chance(high) - belief.chance(low) > 0.98


def test_before_the_first_look_it_is_the_habit() -> None:
    belief = believe(HABIT, (), BLUR)
    assert belief.mean == pytest.approx(240 * math.exp(0.15**2 / 2), rel=0.002)
    assert belief.deviation == pytest.approx(240 * 0.15, rel=0.05)
    for deviations, chance in ((-1, 0.159), (0, 0.5), (1, 0.841)):
        assert belief.chance(240 * math.exp(0.15 * deviations)) == pytest.approx(chance, abs=0.06)


def test_each_look_makes_it_surer() -> None:
    sure = [believe(HABIT, looks, BLUR).deviation for looks in (
        (), (Look(100, 41),), (Look(100, 41), Look(150, 62)),
        (Look(100, 41), Look(150, 62), Look(205, 85)))]  # fmt: skip
    assert sure == sorted(sure, reverse=True)
    assert sure[-1] < 1.0


@pytest.mark.parametrize("told", [None, 0, 50, 98, 100])
def test_a_progress_that_cannot_be_true_leaves_the_habit_in_place(told: int | None) -> None:
    """At 120 s of about 240: nothing told, stuck at 0, or finished as good as now and is not."""
    looks = (Look(120.0, told), Look(180.0, told))
    belief = believe(HABIT, looks, BLUR)
    assert 180.0 < belief.mean < 360.0


@pytest.mark.parametrize("noise", [Noise(0.0), Noise(0.0, 2), Noise(4.0), SILENT])
def test_a_video_that_takes_far_longer_than_any_did_is_believed_to_end_soon(noise: Noise) -> None:
    belief = believe(Habit(HABIT.mean, HABIT.spread, noise), (Look(3000.0, 0),), BLUR)
    assert 3000.0 < belief.mean < 4500.0


def test_where_progress_tells_nothing_a_look_only_cuts_off() -> None:
    blind = Habit(HABIT.mean, HABIT.spread, SILENT)
    one = believe(blind, (Look(230.0, 10),), BLUR)
    assert one.edges == believe(blind, (Look(230.0, None),), BLUR).edges
    assert one.mean == believe(blind, (Look(230.0, 90),), BLUR).mean > 240.0


@given(
    elapsed=st.floats(1.0, 1000.0),
    seconds=st.floats(1.0, 2000.0),
    noise=st.builds(Noise, st.floats(0.02, 12.0), st.integers(0, 5)),
)
def test_the_likelihoods_of_all_progress_add_up_to_one(
    elapsed: float, seconds: float, noise: Noise
) -> None:
    right = 100 * elapsed / seconds
    around = range(math.floor(right) - 250, math.floor(right) + 250)
    near = [
        likelihood(Look(elapsed, progress), seconds, noise, BLUR)
        for progress in around
        if progress != 0
    ]
    nought = likelihood(Look(elapsed, 0), seconds, noise, BLUR) if 0 in around else 0.0
    assert math.fsum([*near, nought]) == pytest.approx(1.0)


def test_noise_with_a_bound_goes_no_further_and_is_alike_within() -> None:
    """50 % in truth, and a percent is rounded down."""
    told = [likelihood(Look(121.0, each), 240.0, Noise(0.02, 2), 0.0) for each in range(46, 56)]
    assert told[2:7] == pytest.approx([0.2] * 5)
    assert told[:2] + told[7:] == pytest.approx([0.0] * 5)


def test_a_belief_weighs_as_told() -> None:
    belief = Belief(array("d", (0.0, 10.0, 20.0, 40.0)), [2.0, 1.0, 1.0])
    assert [belief.chance(at) for at in (0, 5, 10, 20, 30, 40)] == [0, 0.25, 0.5, 0.75, 0.875, 1]
    assert belief.mean == 0.5 * 5 + 0.25 * 15 + 0.25 * 30
    assert belief.lateness(20.0) == (0.75, 0.5 * 15 + 0.25 * 5)
    assert belief.lateness(50.0) == (1.0, 50.0 - belief.mean)
    assert belief.moment(0.625) == 15.0
