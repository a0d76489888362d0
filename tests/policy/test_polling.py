"""When a running video is looked at."""

import math
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Look
from gateway.policy.belief import Habit, Noise
from gateway.policy.polling import (
    _LEAST_DELAY,
    PRICE,
    PollingRule,
    Running,
    may_poll,
    when_to_poll,
)

from .videos import habits, looked
from .views import BLIND, HABIT

RULE = PollingRule(interval=30.0, expected=240.0, max_wait=600.0, task_life=3600.0)

moments = st.floats(0.0, 10_000.0)
latencies = st.floats(0.0, 5.0)
rules = st.builds(
    PollingRule,
    interval=st.floats(0.1, 600.0),
    expected=st.floats(0.1, 1000.0),
    max_wait=st.floats(600.0, 2000.0),
    task_life=st.floats(2000.0, 9000.0),
)


def running(looks: tuple[Look, ...] = (), habit: Habit = HABIT, submitted: float = 0.0) -> Running:
    polled = submitted + looks[-1].elapsed if looks else None
    return Running("a", submitted, polled, looks, habit)


@given(
    rule=rules,
    submitted=moments,
    looks=looked,
    habit=habits,
    latency=latencies,
    since=st.one_of(st.just(0.0), moments),
    price=st.sampled_from([0.0, PRICE, 0.67]),
)
def test_whatever_was_told_the_next_poll_is_as_late_as_it_must_be_and_comes(
    rule: PollingRule,
    submitted: float,
    looks: tuple[Look, ...],
    habit: Habit,
    latency: float,
    since: float,
    price: float,
) -> None:
    video = running(looks, habit, submitted)
    then = when_to_poll(video, rule, latency, since, price)
    assert then >= since
    assert then >= submitted
    if video.polled is not None:
        overdue = video.polled - submitted > rule.max_wait
        assert then >= video.polled + rule.interval * (2 if overdue else 1)
    assert math.isfinite(then)
    longest = max(math.exp(habit.mean + 5 * habit.spread), 5000.0 * math.exp(5 * habit.spread))
    assert then - max(submitted, since) <= 100 * longest + 4 * rule.interval


@given(rule=rules, submitted=moments, after=st.floats(0.0, 5000.0))
def test_an_overdue_video_is_polled_half_as_often_and_never_given_up_here(
    rule: PollingRule, submitted: float, after: float
) -> None:
    video = replace(running(submitted=submitted), polled=submitted + after)
    assert video.polled is not None
    factor = 2 if video.polled - submitted > rule.max_wait else 1
    waits = may_poll(video, rule) - video.polled
    assert factor * rule.interval <= waits == pytest.approx(factor * rule.interval)
    if factor == 2:
        assert when_to_poll(video, rule, 1.0) == may_poll(video, rule)


@pytest.mark.parametrize(("polled", "due"), [(1600.0, 1630.0), (1600.5, 1660.5)])
def test_max_wait_is_inclusive(polled: float, due: float) -> None:
    assert may_poll(replace(running(submitted=1000.0), polled=polled), RULE) == due


def test_the_first_poll_may_go_at_any_time_and_waits_for_when_it_tells_something() -> None:
    assert may_poll(running(submitted=1000.0), RULE) == 1000.0
    assert 90.0 < when_to_poll(running(), RULE, 0.0) < 210.0
    quick = running(habit=Habit(math.log(20.0), 0.15, Noise(0.0)))
    assert 15.0 < when_to_poll(quick, RULE, 0.0) < 30.0


def test_moments_count_from_when_upstream_took_the_video() -> None:
    looks = (Look(160.0, 66),)
    one = when_to_poll(running(looks), RULE, 0.0)
    assert when_to_poll(running(looks, submitted=5000.0), RULE, 0.0) == 5000.0 + one


def test_upstream_looks_half_way_through_a_call() -> None:
    """So a call that takes longer begins earlier by half of that."""
    sure = replace(BLIND, spread=0.03)  # one look is enough
    quick = when_to_poll(running(habit=sure), RULE, 0.0)
    slow = when_to_poll(running(habit=sure), replace(RULE, interval=26.0), 4.0)  # next: as far away
    assert slow == pytest.approx(quick - 2.0, abs=0.3)


@pytest.mark.parametrize("seconds", [200.0, 240.0, 290.0])
@pytest.mark.parametrize("share", [0.6, 0.65, 0.7])
def test_after_an_exact_progress_the_next_poll_is_just_after_the_end(
    seconds: float, share: float
) -> None:
    at = share * seconds
    next_poll = when_to_poll(running((Look(at, math.floor(100 * share)),)), RULE, 0.0)
    low, high = at / (math.floor(100 * share) + 1) * 100, at / math.floor(100 * share) * 100
    assert low < next_poll < high + 0.02 * seconds


def test_at_two_thirds_of_240_seconds_the_next_poll_is_just_after_the_end() -> None:
    assert 240.0 < when_to_poll(running((Look(160.0, 66),)), RULE, 0.0) < 244.0


def test_where_nothing_is_told_looks_spread_over_the_likely_end() -> None:
    """Begun before the mean, a little more than the interval apart while most may end."""
    at, looks = list[float](), tuple[Look, ...]()
    for _ in range(5):
        at.append(when_to_poll(running(looks, BLIND), RULE, 0.0))
        looks = (*looks, Look(at[-1], None))
    gaps = [after - before for before, after in pairwise(at)]
    assert 170.0 < at[0] < 240.0
    assert all(30.0 <= gap < 60.0 for gap in gaps)


@pytest.mark.parametrize("told", [None, 0, 50, 100])
def test_odd_progress_leads_to_no_odd_moment(told: int | None) -> None:
    at, looks = list[float](), tuple[Look, ...]()
    for _ in range(8):
        at.append(when_to_poll(running(looks), RULE, 0.0))
        looks = (*looks, Look(at[-1], told))[-8:]
    gaps = [after - before for before, after in pairwise(at)]
    assert all(30.0 <= gap < 150.0 for gap in gaps)


def test_where_places_are_dear_fewer_looks_go_out() -> None:
    cheap = when_to_poll(running(), RULE, 0.0)
    dear = when_to_poll(running(), RULE, 0.0, price=0.67)
    dearest = when_to_poll(running(), RULE, 0.0, price=10.0)
    assert cheap <= dear <= dearest
    assert dearest > 300.0  # only the one that surely finds it finished


def _least_delay_by_trying(deviation: float, steps: int = 100) -> float:
    """The mean delay of the best looks at a normal belief, one interval or more apart, the best of
    all schedules on a grid of so many steps an interval.
    """
    normal, step = NormalDist(0.0, deviation), 1.0 / steps
    points = [
        -6 * deviation - 1 + index * step for index in range(int((12 * deviation + 3) * steps))
    ]
    found = [normal.cdf(point) for point in points]
    late = [
        point * share + deviation**2 * normal.pdf(point)
        for point, share in zip(points, found, strict=True)
    ]
    rest = [0.0] * len(points)
    for now in reversed(range(len(points) - steps)):
        rest[now] = min(
            late[then] - late[now] - (points[then] - points[now]) * found[now] + rest[then]
            for then in range(now + steps, min(now + 2 * steps, len(points)))
        )
    return min(before + after for before, after in zip(late, rest, strict=True))


@pytest.mark.parametrize(("deviation", "delay"), _LEAST_DELAY[1:])
def test_the_table_of_least_delays_is_what_trying_finds(deviation: float, delay: float) -> None:
    """The grid is coarse beside the least deviation."""
    assert _least_delay_by_trying(deviation) == pytest.approx(delay, abs=0.006)


def test_an_adopted_task_goes_at_once() -> None:
    """Whatever is usual, for nobody knows when it began."""
    adopted = replace(running(submitted=1000.0), polled=0.0)
    assert when_to_poll(adopted, RULE, 0.8) <= 1000.0
    assert when_to_poll(adopted, RULE, 0.8, since=1007.0) == 1007.0
