"""What callers are told of when their jobs will be done, held against what a median is."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Account, Look
from gateway.policy.belief import believe
from gateway.policy.dispatch import Rules, View
from gateway.policy.estimate import OUTAGE, Forecast, Line, Usual, fetching, forecast, line
from gateway.policy.polling import Running
from gateway.policy.window import Place

from .views import HABIT, IDLE, NOW, RULES

USUAL = Usual(held=250.0, spread=36.0, cycle=252.0, polls=2.0, fetches=(1.0, 2.0, 3.0))


def video(number: int, age: float, looks: tuple[Look, ...] = ()) -> Running:
    polled = NOW - age + looks[-1].elapsed if looks else None
    return Running(f"video {number}", NOW - age, polled, looks, HABIT)


def busy(*ages: float) -> View:
    running = tuple(video(number, age) for number, age in enumerate(ages))
    return replace(IDLE, running=running, slots_taken=len(running))


def sent(view: View, position: int, rules: Rules = RULES, usual: Usual = USUAL) -> float:
    moment = line([forecast(view, rules, usual, {})]).sent(position)
    assert moment is not None
    return moment - NOW


ages = st.lists(st.floats(0.0, 2000.0), max_size=5)
taken = st.lists(st.floats(NOW - 61, NOW), max_size=10)


@given(ages, taken)
def test_nothing_is_foretold_for_the_past(ages: list[float], taken: list[float]) -> None:
    view = replace(busy(*ages), places=[Place(at, at) for at in taken])
    found = forecast(view, RULES, USUAL, {})
    assert all(moment > NOW for moment in found.done.values())
    assert all(moment >= NOW for moment in found.freed)
    assert list(found.freed) == sorted(found.freed)


@given(ages, taken, st.integers(1, 300))
def test_who_is_later_in_line_is_sent_later(
    ages: list[float], taken: list[float], position: int
) -> None:
    view = replace(busy(*ages), places=[Place(at, at) for at in taken])
    assert 0.0 <= sent(view, position) <= sent(view, position + 1)
    assert sent(view, position) < sent(view, position + 10)


def test_how_late_ends_are_seen_is_told_by_videos_of_the_same_sort() -> None:
    """An account that mostly makes longer ones sees the ends of short ones no later for that."""
    view, longer = busy(100.0), replace(USUAL, held=400.0)
    (alone,) = forecast(view, RULES, USUAL, {}).done.values()
    (among,) = forecast(view, RULES, longer, {"video 0": USUAL.held}).done.values()
    (taken_for_one,) = forecast(view, RULES, longer, {}).done.values()
    assert alone == among < taken_for_one - 60.0


@given(st.floats(0.0, 200.0), st.floats(0.0, 200.0))
def test_an_older_video_is_done_sooner(one: float, other: float) -> None:
    found = forecast(busy(one, other), RULES, USUAL, {}).done
    older, younger = (0, 1) if one >= other else (1, 0)
    assert found[f"video {older}"] <= found[f"video {younger}"] + 1e-6


@pytest.mark.parametrize("age", [0.0, 100.0, 180.0])
def test_a_young_video_takes_what_its_belief_says(age: float) -> None:
    (done,) = forecast(busy(age), RULES, USUAL, {}).done.values()
    assert done - NOW == pytest.approx(250.0 + 2.0 - age, abs=20.0)


def test_a_look_that_comes_later_in_a_full_window_is_foretold() -> None:
    view = replace(busy(100.0), head="next")
    (soon,) = forecast(view, RULES, USUAL, {}).done.values()
    (late,) = forecast(view, replace(RULES, concurrent=20), USUAL, {}).done.values()
    assert late > soon + 5.0


def test_a_video_that_is_probably_done_waits_for_its_poll_and_its_download() -> None:
    view = replace(busy(500.0), latency=1.0)
    (done,) = forecast(view, RULES, USUAL, {}).done.values()
    assert done - NOW == pytest.approx(1.0 + 2.0, abs=0.5)
    full = replace(view, places=[Place(NOW - 20, NOW - 20)] * 10)
    (done,) = forecast(full, RULES, USUAL, {}).done.values()
    assert done - NOW == pytest.approx(41.0 + 1.0 + 2.0, abs=0.5)


def test_what_a_look_told_counts() -> None:
    slow = replace(IDLE, running=(video(1, 120.0, (Look(110.0, 36),)),), slots_taken=1)
    (done,) = forecast(slow, RULES, USUAL, {}).done.values()
    assert done - NOW == pytest.approx(110 / 0.365 - 120 + 12, abs=15.0)


def test_free_slots_are_filled_at_once_and_then_one_after_the_other() -> None:
    assert sent(IDLE, 1) == 0.0
    assert sent(IDLE, 4) <= 61.0
    assert 150.0 < sent(IDLE, 6) < 252.0
    assert sent(IDLE, 100) == pytest.approx(94.5 / 5 * 252, rel=0.05)


def test_slots_come_free_by_the_videos_in_them() -> None:
    assert sent(busy(240, 190, 140, 90, 40), 1) < 40
    assert sent(busy(10, 10, 10, 10, 10), 1) == pytest.approx(205, abs=30)


def test_the_window_keeps_fast_videos_back() -> None:
    fast = replace(USUAL, held=10.0, spread=1.0, cycle=10.0)
    assert sent(IDLE, 101, usual=fast) == pytest.approx(100 * 4 * 6.1, rel=0.05)
    free = replace(RULES, counts=frozenset())
    assert sent(IDLE, 101, free, fast) == pytest.approx(100 * 2, rel=0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"account": Account("main", paused=True)},
        {"account": Account("main", doubt="who knows")},
        {"room": False},
    ],
)
def test_nobody_can_tell_when_nothing_is_sent(changes: dict[str, object]) -> None:
    found = forecast(replace(busy(100.0), **changes), RULES, USUAL, {})  # type: ignore[arg-type]
    assert line([found]).sent(1) is None
    assert found.done  # what runs goes on
    other = forecast(IDLE, RULES, USUAL, {})
    assert line([found, other]).sent(1) == line([other]).sent(1) == NOW


def test_nobody_can_tell_anything_of_an_account_that_is_down() -> None:
    down = replace(busy(100.0), account=Account("main", opens=NOW + 8, failures=OUTAGE))
    assert forecast(down, RULES, USUAL, {}) == Forecast(down=True)
    failed = replace(down, account=replace(down.account, failures=OUTAGE - 1))
    assert not forecast(failed, RULES, USUAL, {}).down


def test_submits_wait_for_videos_that_are_to_be_fetched() -> None:
    fresh = replace(IDLE, to_fetch=6)
    assert sent(replace(fresh, to_fetch=5), 1) == 0.0
    assert sent(fresh, 1) == pytest.approx(USUAL.fetch())
    full = replace(fresh, places=[Place(NOW - 20, NOW - 20)] * 10)
    assert sent(full, 1) == pytest.approx(41.0 + USUAL.fetch())


def test_nobody_can_tell_while_videos_that_cannot_be_fetched_hold_submits_back() -> None:
    stuck = replace(busy(100.0), to_fetch=6, to_fetch_again=6)
    found = forecast(stuck, RULES, USUAL, {})
    assert line([found]).sent(1) is None
    assert set(found.done) == {"video 0"}


def test_calls_that_must_be_apart_keep_videos_back() -> None:
    """Four calls a video, 20 s apart."""
    fast = replace(USUAL, held=10.0, spread=1.0, cycle=10.0)
    apart = replace(RULES, window=replace(RULES.window, spacing=20.0))
    view = replace(IDLE, places=[Place(NOW - 5, NOW - 4)])
    assert 15.0 <= sent(view, 1, apart, fast) <= 15.0 + 20.0
    assert sent(view, 3, apart, fast) == pytest.approx(15.0 + 9 * 20.0, abs=20.0)
    assert sent(view, 101, apart, fast) == pytest.approx(100 * 4 * 20.0, rel=0.05)


def test_an_account_that_backs_off_is_waited_for() -> None:
    later = replace(IDLE, account=Account("main", submits=NOW + 100))
    assert sent(later, 1) == 100
    closed = replace(busy(500.0), account=Account("main", opens=NOW + 70))
    assert forecast(closed, RULES, USUAL, {}).done["video 0"] >= NOW + 70


def test_a_slot_of_unknown_fate_comes_back_when_it_is_said_to() -> None:
    one = replace(RULES, concurrent=1)
    ghost = replace(IDLE, slots_taken=1, slot_returns=NOW + 77)
    assert sent(ghost, 1, one) == 77


def test_slots_too_many_are_not_refilled() -> None:
    """Fewer are allowed than before: the one that ends last is the one that remains."""
    one = replace(RULES, concurrent=1)
    assert sent(busy(240, 190, 140, 40), 1, one) == pytest.approx(sent(busy(40), 1, one), abs=1.0)


def test_two_accounts_are_twice_as_fast() -> None:
    one = forecast(busy(240, 190, 140, 90, 40), RULES, USUAL, {})
    alone, both = line([one]), line([one, one])
    single, double = alone.sent(100), both.sent(200)
    assert single is not None
    assert double == pytest.approx(single, rel=0.02)


def test_nothing_is_told_of_an_empty_line() -> None:
    assert line([]).sent(1) is None
    assert line([Forecast()]) == Line([], [], math.inf)


def test_moments_that_come_out_of_turn_are_put_in_order() -> None:
    """The window's places come back in another order than slots come free."""
    odd = Forecast({}, [NOW + 20.0, NOW + 10.0], 50.0)
    assert line([odd]) == line([replace(odd, freed=[NOW + 10.0, NOW + 20.0])])


@given(st.integers(1, 300), st.floats(0.0, 4000.0))
def test_another_account_only_helps(position: int, opens: float) -> None:
    fast = forecast(busy(240, 190, 140, 90, 40), RULES, USUAL, {})
    slow = forecast(replace(IDLE, account=Account("b", submits=NOW + opens)), RULES, USUAL, {})
    alone, both = line([fast]).sent(position), line([slow, fast]).sent(position)
    assert alone is not None
    assert both is not None
    assert NOW <= both <= alone + 1e-6
    if alone < NOW + opens:  # nor may one that is closed be waited for
        assert both == pytest.approx(alone, abs=line([fast]).pace)


def test_a_download_takes_the_median_of_those_that_took_longer_yet() -> None:
    assert fetching(USUAL, NOW, 0.0, NOW) == NOW + 2.0
    assert fetching(USUAL, NOW - 1.5, 0.0, NOW) == NOW + 1.0
    assert fetching(USUAL, NOW - 50.0, 0.0, NOW) == NOW + 2.0
    assert fetching(USUAL, NOW - 50.0, NOW + 8.0, NOW) == NOW + 10.0


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_beliefs_moments_are_those_of_its_chances(one: float, other: float) -> None:
    belief = believe(HABIT, (), 0.1)
    low, high = sorted((one, other))
    assert belief.edges[0] <= belief.moment(low) <= belief.moment(high) <= belief.edges[-1]
    if 0.01 < one < 0.99:
        assert belief.chance(belief.moment(one)) == pytest.approx(one, abs=1e-9)
