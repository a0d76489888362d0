"""The window against an upstream that counts calls either way, and against its own definition."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.policy.window import Place, WindowRule, free_at, opens_at, returns_at, taken

UNIX = 1_800_000_000.0
"""Times are Unix seconds in life: there floats are coarse, and rounding shows."""

rules = st.builds(
    WindowRule,
    requests=st.integers(1, 5),
    period=st.sampled_from([0.1, 1.0, 7.3, 60.0]),
    guard=st.sampled_from([0.0, 0.1, 1.0]),
    spacing=st.sampled_from([0.0, 0.0, 0.1, 0.7]),
)
starts = st.sampled_from([0.0, 0.3, UNIX, UNIX + 0.1])
gaps = st.sampled_from([0.0, 0.0, 0.0, 1e-6, 0.01, 0.05, 0.1, 0.5, 1.0, 7.3, 30.0, 59.9, 60.0])
lengths = st.one_of(gaps, st.floats(0.0, 100.0))
schedules = st.lists(st.tuples(gaps, lengths, st.floats(0.0, 1.0)), max_size=25)


@st.composite
def places_taken(draw: st.DrawFn) -> list[Place]:
    """Calls that ended, and calls that have not."""
    places = []
    for reserved in draw(st.lists(st.integers(0, 200), max_size=12)):
        length = draw(st.one_of(st.none(), st.integers(0, 50)))
        places.append(Place(reserved, None if length is None else reserved + length))
    return places


def run(
    rule: WindowRule, start: float, schedule: list[tuple[float, float, float]]
) -> list[tuple[Place, float]]:
    """Calls made as soon as the window opens; each with the moment at which it arrives upstream."""
    now, calls = start, list[tuple[Place, float]]()
    for gap, length, share in schedule:
        now += gap
        under_way = [
            Place(p.reserved, p.ended if (p.ended or 0) <= now else None) for p, _ in calls
        ]
        while (opens := opens_at(rule, under_way, now)) > now:
            ends = [p.ended for p, _ in calls if p.ended is not None and p.ended > now]
            now = min(opens, *ends) if ends else opens
            under_way = [
                Place(p.reserved, p.ended if (p.ended or 0) <= now else None) for p, _ in calls
            ]
        arrived = min(now + share * length, now + length)
        calls.append((Place(now, now + length), arrived))
    return calls


def most_in_a_window(moments: list[float], period: float) -> int:
    """Most moments in any half-open [t, t + period), counted without rounding."""
    exact = sorted(map(Fraction, moments))
    span = Fraction(period)
    return max((sum(t <= each < t + span for each in exact) for t in exact), default=0)


@given(rule=rules, start=starts, schedule=schedules)
@example(WindowRule(1, 0.1, 0.0), UNIX, [(0.0, 0.0, 0.0)] * 3)  # the sum would round down
def test_an_upstream_never_sees_more_than_it_allows_however_it_counts(
    rule: WindowRule, start: float, schedule: list[tuple[float, float, float]]
) -> None:
    calls = run(rule, start, schedule)
    arrivals = [arrived for _, arrived in calls]
    ends = [place.ended for place, _ in calls if place.ended is not None]
    assert most_in_a_window(arrivals, rule.period) <= rule.requests
    assert most_in_a_window(ends, rule.period) <= rule.requests


@given(rule=rules, start=starts, schedule=schedules)
def test_places_are_never_taken_twice(
    rule: WindowRule, start: float, schedule: list[tuple[float, float, float]]
) -> None:
    places = [place for place, _ in run(rule, start, schedule)]
    for number, place in enumerate(places, 1):
        assert taken(rule, places[:number], place.reserved) <= rule.requests


@given(rule=rules, start=starts, schedule=schedules)
def test_calls_keep_their_distance(
    rule: WindowRule, start: float, schedule: list[tuple[float, float, float]]
) -> None:
    reserved = [Fraction(place.reserved) for place, _ in run(rule, start, schedule)]
    for one, following in pairwise(reserved):
        assert following - one >= Fraction(rule.spacing)


@given(rule=rules, places=places_taken(), now=st.integers(0, 300))
def test_it_opens_at_the_earliest_moment_at_which_a_place_is_free(
    rule: WindowRule, places: list[Place], now: int
) -> None:
    opens = opens_at(rule, places, now)
    latest = max((place.reserved for place in places), default=-math.inf)

    def free(moment: float) -> bool:
        room = taken(rule, places, moment) < rule.requests
        return room and Fraction(moment) >= Fraction(max(latest, -1e9)) + Fraction(rule.spacing)

    assert opens >= now
    if math.isinf(opens):
        assert sum(place.ended is None for place in places) >= rule.requests
    else:
        assert free(opens)
        assert opens == now or not free(math.nextafter(opens, -math.inf))


@given(ended=st.floats(0.0, 2e9), rule=rules)
def test_a_place_returns_at_the_first_moment_that_is_not_too_early(
    ended: float, rule: WindowRule
) -> None:
    back = returns_at(rule, Place(0.0, ended))
    exact = Fraction(ended) + Fraction(rule.period) + Fraction(rule.guard)
    assert Fraction(math.nextafter(back, -math.inf)) < exact <= Fraction(back)


def test_the_window_in_plain_figures() -> None:
    rule = WindowRule(requests=2, period=60.0, guard=1.0)
    assert opens_at(rule, [], 100.0) == 100.0
    assert opens_at(rule, [Place(90.0, 95.0)], 100.0) == 100.0
    assert opens_at(rule, [Place(80.0, 85.0), Place(90.0, 95.0)], 100.0) == 146.0
    assert opens_at(rule, [Place(80.0, 85.0), Place(90.0, 95.0)], 146.0) == 146.0
    assert opens_at(rule, [Place(80.0, None), Place(90.0, 95.0)], 100.0) == 156.0


def test_a_long_call_keeps_its_place_until_a_period_after_its_end() -> None:
    rule = WindowRule(requests=1, period=60.0, guard=1.0)
    assert opens_at(rule, [Place(0.0, None)], 5000.0) == math.inf
    assert opens_at(rule, [Place(0.0, 5000.0)], 5000.0) == 5061.0


@pytest.mark.parametrize("held", [3, 7])
def test_lowered_limits_wait_until_enough_places_have_returned(held: int) -> None:
    rule = WindowRule(requests=2, period=60.0, guard=0.0)
    places = [Place(number, number) for number in range(held)]
    assert opens_at(rule, places, 10.0) == (held - 2) + 60.0


@given(rule=rules, places=places_taken(), now=st.integers(200, 300))
def test_places_are_free_now_or_when_their_calls_come_back(
    rule: WindowRule, places: list[Place], now: int
) -> None:
    """Those under way are taken to end now."""
    ended = [
        replace(place, ended=now if place.ended is None else min(now, place.ended))
        for place in places
    ]
    free = free_at(rule, places, now)
    assert free == sorted(free)
    assert sum(at == now for at in free) == max(rule.requests - taken(rule, ended, now), 0)
    back = sorted(at for place in ended if (at := returns_at(rule, place)) > now)
    back = back[-rule.requests :]
    assert len(free) == rule.requests
    assert free[len(free) - len(back) :] == pytest.approx(back)
    assert free[0] == pytest.approx(opens_at(replace(rule, spacing=0.0), ended, now))
