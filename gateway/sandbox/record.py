"""What happened, in order, and the questions a test may ask of it.

Owns the append-only record of calls and tasks, and its oracles: pure functions over any run of
events, computed from the events alone and never from the limiter's own counters, so that a wrong
limiter is found out. Never holds a key, and never changes an event once it is written.

All moments are virtual Unix seconds. A window is half-open, [t, t + period).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gateway.sandbox.settings import Counting

Kind = Literal["submit", "poll", "download", "other"]


@dataclass(frozen=True)
class Arrived:
    """A call reached the sandbox."""

    call: int
    at: float
    kind: Kind
    video_id: str | None
    """The id in the path; None for a submit, whose id is in its `Created`."""
    key_right: bool
    """Whether `Authorization` was exactly what is wanted; the header itself is not kept."""


@dataclass(frozen=True)
class Ended:
    """The answer to a call was sent to its end, or broke off (`whole` False)."""

    call: int
    at: float
    status: int | None
    """None: not even a status was sent."""
    whole: bool


@dataclass(frozen=True)
class Created:
    """A submit created a task, which is unfinished during [at, until); inf: for good."""

    call: int
    at: float
    video_id: str
    prompt: str
    until: float


@dataclass(frozen=True)
class Violated:
    """Counting by end, a call ended while the window already held `taken` calls, its limit."""

    call: int
    at: float
    taken: int


Event = Arrived | Ended | Created | Violated


class Record:
    """The events so far. Iterating goes over those present when the iteration began."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Append one event."""
        self._events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)


def most_calls_in_window(
    record: Iterable[Event],
    period: float,
    by: Counting = "arrival",
    *,
    with_refused: bool = False,
) -> int:
    """The most calls that any window of `period` seconds saw, by the moment they came or ended.

    Calls answered 429 are left out unless `with_refused`; a caller that keeps the limit by itself
    shows the same figure either way. By end, calls still under way are not counted.
    """
    events = tuple(record)
    left_out = set() if with_refused else {arrived.call for arrived in refused(events)}
    moment = Arrived if by == "arrival" else Ended
    times = sorted(e.at for e in events if isinstance(e, moment) and e.call not in left_out)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= period:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_tasks_at_once(record: Iterable[Event]) -> int:
    """The most tasks that were unfinished at one moment."""
    steps = []
    for event in record:
        if isinstance(event, Created) and event.at < event.until:
            steps += [(event.at, 1), (event.until, -1)]
    most = tasks = 0
    for _, step in sorted(steps):
        tasks += step
        most = max(most, tasks)
    return most


def refused(record: Iterable[Event]) -> tuple[Arrived, ...]:
    """The calls that were answered 429, in the order they came."""
    events = tuple(record)
    calls = {event.call for event in events if isinstance(event, Ended) and event.status == 429}
    return tuple(event for event in events if isinstance(event, Arrived) and event.call in calls)


def violations(record: Iterable[Event]) -> tuple[Violated, ...]:
    """The calls whose end fell into a full window (only when counting by end)."""
    return tuple(event for event in record if isinstance(event, Violated))


def submits_by_prompt(record: Iterable[Event]) -> dict[str, int]:
    """How many tasks were created for each prompt; more than one for a prompt is a double."""
    return dict(Counter(event.prompt for event in record if isinstance(event, Created)))


def figures(record: Iterable[Event], period: float) -> dict[str, Any]:
    """Every oracle's answer, as JSON can hold it."""
    events = tuple(record)
    return {
        "most_calls_in_window": {
            by: most_calls_in_window(events, period, by) for by in ("arrival", "end")
        },
        "most_calls_in_window_with_refused": {
            by: most_calls_in_window(events, period, by, with_refused=True)
            for by in ("arrival", "end")
        },
        "most_tasks_at_once": most_tasks_at_once(events),
        "refused": len(refused(events)),
        "violations": len(violations(events)),
        "submits_by_prompt": submits_by_prompt(events),
    }


def event_as_json(event: Event) -> dict[str, Any]:
    """One event as JSON can hold it, its name under `event`; a moment that never comes is null."""
    fields = {"event": type(event).__name__.lower(), **asdict(event)}
    return {name: None if value == float("inf") else value for name, value in fields.items()}
