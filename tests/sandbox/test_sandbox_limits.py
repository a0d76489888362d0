"""The limits against the plainest way to say what they mean."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.sandbox.limits import SlidingWindow, TaskSlots

FAR = 1_750_000_000.0  # a Unix time: there floats are coarse, and rounding shows

periods = st.sampled_from([0.1, 1.0, 7.3, 60.0])
steps = st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 7.3, 59.9, 60.0, 1e-6]), max_size=60)


def moments(start: float, gaps: list[float]) -> list[float]:
    times = []
    for gap in gaps:
        start += gap
        times.append(start)
    return times


@given(limit=st.integers(1, 5), period=periods, gaps=steps, start=st.sampled_from([0.0, FAR]))
@example(limit=1, period=0.1, gaps=[0.0, 419430 * 2**-22], start=FAR)  # FAR + 0.1 rounds down
def test_a_call_is_admitted_exactly_if_its_window_has_room(
    limit: int, period: float, gaps: list[float], start: float
) -> None:
    window = SlidingWindow(limit, period)
    admitted: list[float] = []
    for now in moments(start, gaps):
        inside = [at for at in admitted[-limit:] if now - at < period]
        assert (window.wait(now) == 0.0) == (len(inside) < limit)
        if window.wait(now) == 0.0:
            window.count(now)
            admitted.append(now)


@given(limit=st.integers(1, 5), period=periods, gaps=steps)
def test_the_wait_is_the_least_after_which_there_is_room(
    limit: int, period: float, gaps: list[float]
) -> None:
    window = SlidingWindow(limit, period)
    times = moments(0.0, gaps)
    for number, now in enumerate(times):
        window.count(now)  # whether or not there is room
        counted = times[: number + 1]
        wait = window.wait(now)
        if wait:
            assert window.taken(now) >= limit
            later, sooner = now + wait + 1e-6, now + wait - 1e-6
            assert sum(later - at < period for at in counted) < limit
            assert sum(sooner - at < period for at in counted) >= limit or wait < 1e-6


def test_calls_exactly_one_period_apart_share_no_window() -> None:
    window = SlidingWindow(1, 60.0)
    window.count(100.0)
    assert window.wait(159.5) == 0.5
    assert window.wait(160.0) == 0.0
    assert window.taken(160.0) == 0


def test_a_call_taken_back_leaves_room() -> None:
    window = SlidingWindow(2, 60.0)
    window.count(1.0)
    window.count(2.0)
    window.uncount(2.0)
    window.uncount(50.0)  # never counted: nothing happens
    assert window.taken(3.0) == 1


spans = st.lists(
    st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 20), st.just(math.inf))), max_size=40
)


@given(limit=st.integers(1, 4), spans=spans)
def test_a_slot_is_held_from_start_to_before_until(
    limit: int, spans: list[tuple[int, float]]
) -> None:
    slots = TaskSlots(limit)
    held: list[tuple[float, float]] = []
    now = 0.0
    for gap, length in spans:
        now += gap
        busy = sum(start <= now < until for start, until in held)
        assert slots.taken(now) == busy
        taken = slots.take(now, now + length)
        assert taken == (busy < limit)
        if taken:
            held.append((now, now + length))
