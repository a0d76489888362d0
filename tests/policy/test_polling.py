"""When a running video is looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.polling import PollingRule, when_to_poll

RULE = PollingRule(interval=30.0, expected=240.0, max_wait=600.0, task_life=3600.0)

moments = st.floats(0.0, 10_000.0)
rules = st.builds(
    PollingRule,
    interval=st.floats(0.1, 600.0),
    expected=st.floats(0.1, 1000.0),
    max_wait=st.floats(600.0, 2000.0),
    task_life=st.floats(2000.0, 9000.0),
)


@given(rule=rules, submitted=moments, after=st.floats(0.0, 5000.0))
def test_never_twice_within_the_interval(rule: PollingRule, submitted: float, after: float) -> None:
    polled = submitted + after
    assert when_to_poll(submitted, polled, rule) >= polled + rule.interval
    assert when_to_poll(submitted, None, rule) >= submitted + rule.interval


@given(rule=rules, submitted=moments, after=st.floats(0.0, 5000.0))
def test_an_overdue_video_is_polled_half_as_often_and_never_given_up_here(
    rule: PollingRule, submitted: float, after: float
) -> None:
    polled = submitted + after
    factor = 2 if polled - submitted > rule.max_wait else 1
    assert when_to_poll(submitted, polled, rule) == polled + factor * rule.interval


def test_the_first_look_waits_for_half_of_what_a_video_usually_takes() -> None:
    assert when_to_poll(1000.0, None, RULE) == 1120.0


def test_the_first_look_waits_for_an_interval_where_videos_are_quick() -> None:
    quick = PollingRule(interval=30.0, expected=20.0, max_wait=600.0, task_life=3600.0)
    assert when_to_poll(1000.0, None, quick) == 1030.0


@pytest.mark.parametrize(("polled", "due"), [(1600.0, 1630.0), (1600.5, 1660.5)])
def test_max_wait_is_inclusive(polled: float, due: float) -> None:
    assert when_to_poll(1000.0, polled, RULE) == due
