"""What finished videos teach about the next ones."""

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Look
from gateway.policy.belief import SILENT, Habit, Noise
from gateway.policy.habit import NOISES, Lesson, differs, learn, lesson, unknown

from .videos import finished, habits, looked

NO_FITS = (0.0,) * len(NOISES)


def taught(kind: str, mean: float, spread: float, count: int, seed: int = 1) -> list[Lesson]:
    """The lessons of so many videos, each judged by what the ones before taught."""
    random, lessons = Random(seed), list[Lesson]()
    for _ in range(count):
        one = lesson(learn(lessons, 240.0), finished(random, kind, mean, spread))
        assert one is not None
        lessons.append(one)
    return lessons


def of(*seconds: float) -> list[Lesson]:
    return [Lesson(each, NO_FITS) for each in seconds]


def test_without_lessons_videos_take_what_is_expected() -> None:
    assert learn([], 100.0) == unknown(100.0)
    assert unknown(100.0).mean == math.log(100.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("kind", "noises"),
    [
        ("exact", {Noise(0.0), Noise(0.5)}),
        ("+-2", {Noise(0.0, 1), Noise(0.0, 2), Noise(1.5)}),
        ("none", {SILENT}),
        ("stuck", {SILENT}),
    ],
)
def test_what_progress_is_worth_is_recognised(kind: str, noises: set[Noise], seed: int) -> None:
    for count in (10, 50):
        assert learn(taught(kind, 240.0, 0.15, count, seed), 240.0).noise in noises


@pytest.mark.parametrize("kind", ["exact", "+-2", "none"])
@pytest.mark.parametrize(("mean", "spread"), [(240.0, 0.15), (120.0, 0.4), (60.0, 0.15)])
def test_how_long_videos_take_is_learnt_whatever_was_expected(
    kind: str, mean: float, spread: float
) -> None:
    habit = learn(taught(kind, mean, spread, 60), 240.0)
    assert math.exp(habit.mean) == pytest.approx(mean, rel=0.25 * (spread / 0.15) ** 0.5)
    assert spread / 2 < habit.spread < 2 * spread


def test_outliers_change_little() -> None:
    usual = of(*(230.0 + number for number in range(20)))
    odd = [*usual, *of(3.0, 3600.0, 3000.0, 1e-3)]
    one, other = learn(usual, 240.0), learn(odd, 240.0)
    assert other.mean == pytest.approx(one.mean, abs=0.02)
    assert other.spread < 2 * one.spread


def test_few_videos_are_not_trusted_alone() -> None:
    steps = [abs(learn(of(*[60.0] * count), 240.0).mean - math.log(60.0)) for count in range(1, 30)]
    assert all(after < before for before, after in pairwise(steps))
    assert steps[0] > 0.5
    assert steps[-1] < 0.1
    assert [learn(of(*[60.0] * count), 240.0).spread for count in (1, 3)] == [0.5, 0.5]


@given(
    seconds=st.lists(st.floats(1e-3, 1e5), max_size=100),
    fits=st.lists(st.floats(-100.0, 0.0), min_size=len(NOISES), max_size=len(NOISES)),
)
def test_whatever_was_seen_there_is_a_habit(seconds: list[float], fits: list[float]) -> None:
    habit = learn([Lesson(each, tuple(fits)) for each in seconds], 240.0)
    assert math.isfinite(habit.mean)
    assert 0.03 <= habit.spread < 20.0
    assert habit.noise in NOISES


@given(habit=habits, looks=looked, found=st.floats(-10.0, 6000.0))
def test_whatever_was_told_teaches_something_or_nothing(
    habit: Habit, looks: tuple[Look, ...], found: float
) -> None:
    one = lesson(habit, (*looks, Look(found, 100)))
    if found <= 0:
        assert one is None
        return
    assert one is not None
    assert one.seconds > 0.0
    assert math.isfinite(one.seconds)
    assert all(map(math.isfinite, one.fits))


def test_a_video_took_no_longer_than_until_it_was_found_and_no_less_than_it_was_seen_to() -> None:
    habit = Habit(math.log(240.0), 0.15, Noise(0.0))
    one = lesson(habit, (Look(150.0, 62), Look(245.0, 100)))
    assert one is not None
    assert 150 / 0.63 < one.seconds < 150 / 0.62
    late = lesson(habit, (Look(100.0, None), Look(900.0, 100)))
    early = lesson(habit, (Look(30.0, 100),))
    assert late is not None
    assert early is not None
    assert 100.0 < late.seconds <= 900.0
    assert 0.0 < early.seconds <= 30.0


@given(habit=habits)
def test_a_habit_does_not_differ_from_itself(habit: Habit) -> None:
    assert not differs(habit, habit)


def test_habits_differ_where_it_matters() -> None:
    noise = Noise(0.5)
    habit = Habit(5.0, 0.2, noise)
    assert not differs(habit, Habit(5.01, 0.21, noise))
    for other in (Habit(5.03, 0.2, noise), Habit(5.0, 0.3, noise), Habit(5.0, 0.1, noise)):
        assert differs(habit, other)
        assert differs(other, habit)
    assert differs(habit, Habit(5.0, 0.2, SILENT))
