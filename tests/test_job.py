"""The table of a job's states, and the two sides of an outcome."""

from dataclasses import FrozenInstanceError

import pytest

from gateway.job import TERMINAL, TRANSITIONS, Account, Job, State
from gateway.outcome import SANE, Outcome, Verdict


def reachable(start: State) -> set[State]:
    found, ahead = {start}, [start]
    while ahead:
        following = set(TRANSITIONS[ahead.pop()]) - found
        found |= following
        ahead.extend(following)
    return found


def test_terminal_is_final() -> None:
    assert {State.COMPLETED, State.FAILED, State.CANCELLED} == TERMINAL
    assert all(not TRANSITIONS[state] for state in TERMINAL)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State) == reachable(State.QUEUED)


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_from_every_state_a_job_can_come_to_an_end(state: State) -> None:
    assert reachable(state) & TERMINAL


def test_a_job_is_completed_only_by_its_content_being_here() -> None:
    assert [s for s, following in TRANSITIONS.items() if State.COMPLETED in following] == [
        State.FETCHING
    ]


def test_a_job_is_sent_only_from_the_queue_and_cancelled_only_while_upstream_has_no_task() -> None:
    def sources(to: State) -> list[State]:
        return [state for state, following in TRANSITIONS.items() if to in following]

    assert sources(State.SUBMITTING) == [State.QUEUED]
    assert sources(State.CANCELLED) == [State.QUEUED, State.SUBMITTING]


def test_every_transition_says_why() -> None:
    assert all(why for following in TRANSITIONS.values() for why in following.values())


def test_states_are_the_words_of_the_design() -> None:
    words = "queued submitting running fetching completed failed cancelled"
    assert [state.value for state in State] == words.split()


def test_nouns_are_values() -> None:
    with pytest.raises(FrozenInstanceError):
        Account("main").failures = 1  # type: ignore[misc]
    job = Job("id", "caller", State.QUEUED, "m", "1x1", 1, "p", 0.0, 0.0)
    with pytest.raises(FrozenInstanceError):
        job.state = State.FAILED  # type: ignore[misc]


def test_an_input_is_named_by_its_bytes() -> None:
    job = Job("id", "caller", State.QUEUED, "m", "1x1", 1, "p", 0.0, 0.0)
    with_input = job.with_input("ab" * 32, "image/png")
    assert (with_input.input_sha256, with_input.input_type) == ("ab" * 32, "image/png")
    assert job.input_sha256 is None


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_was_sent_in_part_may_be_counted_upstream(verdict: Verdict) -> None:
    assert Outcome(verdict).touched == (verdict != "unsent")


def test_a_get_is_sane_when_upstream_itself_spoke_of_the_task() -> None:
    assert {"observed", "finished", "failed", "passing", "missing"} == SANE
