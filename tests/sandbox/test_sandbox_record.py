"""The oracles against brute force: a wrong oracle would call a wrong gateway right."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox.record import (
    Arrived,
    Created,
    Ended,
    Event,
    Record,
    Violated,
    event_as_json,
    figures,
    most_calls_in_window,
    most_tasks_at_once,
    refused,
    submits_by_prompt,
    violations,
)

PERIOD = 10.0

# (arrived, lasts, status); None for a call that has not ended yet
calls = st.lists(
    st.tuples(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 30)), st.integers(0, 1)),
    max_size=25,
)


def record_of(drawn: list[tuple[int, int | None, int]]) -> Record:
    events: list[Event] = []
    for number, (at, lasts, refusal) in enumerate(drawn):
        events.append(Arrived(number, float(at), "poll", "video_1", True))
        if lasts is not None:
            events.append(Ended(number, float(at + lasts), 429 if refusal else 200, True))
    record = Record()
    for event in sorted(events, key=lambda event: event.at):
        record.add(event)
    return record


def busiest(times: list[float]) -> int:
    return max((sum(t <= at < t + PERIOD for at in times) for t in times), default=0)


@given(calls)
def test_most_calls_in_window_is_the_busiest_of_all_windows(
    drawn: list[tuple[int, int | None, int]],
) -> None:
    record = record_of(drawn)
    came = [(float(at), lasts is not None and refusal) for at, lasts, refusal in drawn]
    ended = [(float(at + lasts), refusal) for at, lasts, refusal in drawn if lasts is not None]
    for by, times in (("arrival", came), ("end", ended)):
        assert most_calls_in_window(record, PERIOD, by) == busiest(  # type: ignore[arg-type]
            [at for at, refusal in times if not refusal]
        )
        assert most_calls_in_window(
            record,
            PERIOD,
            by,  # type: ignore[arg-type]
            with_refused=True,
        ) == busiest([at for at, _ in times])


def test_two_calls_exactly_one_period_apart_are_in_no_window_together() -> None:
    assert most_calls_in_window(record_of([(0, 0, 0), (10, 0, 0)]), PERIOD) == 1
    assert most_calls_in_window(record_of([(0, 0, 0), (9, 0, 0)]), PERIOD) == 2


@given(
    st.lists(st.tuples(st.integers(0, 30), st.one_of(st.integers(0, 20), st.just(math.inf)))),
)
def test_most_tasks_at_once_looks_at_every_moment(spans: list[tuple[int, float]]) -> None:
    record = [
        Created(n, float(at), f"video_{n}", "a cat", at + lasts)
        for n, (at, lasts) in enumerate(spans)
    ]
    at_starts = [sum(e.at <= moment < e.until for e in record) for moment in range(31)]
    assert most_tasks_at_once(record) == max(at_starts)


def test_refused_and_violations_and_doubles() -> None:
    events: list[Event] = [
        Arrived(1, 0.0, "submit", None, True),
        Created(1, 0.0, "video_1", "a cat", 9.0),
        Ended(1, 0.0, None, False),
        Arrived(2, 1.0, "submit", None, True),
        Created(2, 1.0, "video_2", "a cat", math.inf),
        Ended(2, 1.0, 200, True),
        Arrived(3, 2.0, "poll", "video_1", True),
        Ended(3, 2.0, 429, True),
        Violated(2, 1.0, 10),
    ]
    assert refused(events) == (events[6],)
    assert violations(events) == (events[8],)
    assert submits_by_prompt(events) == {"a cat": 2}
    told = figures(events, PERIOD)
    assert told["most_calls_in_window"] == {"arrival": 2, "end": 2}
    assert told["most_calls_in_window_with_refused"] == {"arrival": 3, "end": 3}
    assert (told["refused"], told["violations"], told["most_tasks_at_once"]) == (1, 1, 2)


def test_events_go_into_strict_json() -> None:
    told = event_as_json(Created(2, 1.0, "video_2", "a cat", math.inf))
    assert json.loads(json.dumps(told, allow_nan=False)) == {
        "event": "created",
        "call": 2,
        "at": 1.0,
        "video_id": "video_2",
        "prompt": "a cat",
        "until": None,
    }


def test_iterating_is_not_disturbed_by_what_is_added_meanwhile() -> None:
    record = record_of([(0, None, 0)])
    for event in record:
        record.add(event)
    assert len(record) == 2
