"""From providers' records to figures. Pure; all times are seconds of one clock.

The limit of an account is the lesser of its slots and its window, in videos a second:
`min(concurrent / mean, requests / (period + guard + latency) / 3)`. `mean` is the mean duration
that was really drawn for the videos counted, `latency` the mean time that the calls really took.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, quantiles

from .provider import Limits, Provider, Task, Visit

CALLS_A_VIDEO = 3
"""The least: a submit, a poll that tells that it is done, a download."""

JITTER = 1e-6
"""Seconds by which two calls may be closer than asked and nobody could tell."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one run. Of the measured time: videos, calls, delays, idle slots. Of the whole
    run, for these must never happen: `refused`, `late_breaches` and the two of polls too close.
    """

    hours: float
    videos: int
    limit: float
    """Videos an hour, of all accounts together."""
    calls: Mapping[str, float]
    """Calls a video, by kind."""
    refused: int
    late_breaches: int
    close_by_sending: int
    close_by_arrival: int
    delay: float
    """Seconds from a video's end upstream until it is here, the median; and the ninth tenth."""
    late_delay: float
    unseen: float
    """Slot seconds a video that nobody had seen that it was over."""
    unfilled: float
    """Slot seconds a video from then until the next one was accepted; below 0 where somebody else
    took the slot before.
    """

    @property
    def rate(self) -> float:
        """Videos an hour."""
        return self.videos / self.hours

    @property
    def share(self) -> float:
        """Of the limit, 1 at most but for chance."""
        return self.rate / self.limit

    @property
    def calls_a_video(self) -> float:
        return sum(self.calls.values())


def measure(
    providers: Sequence[Provider],
    completed: Sequence[Mapping[str, float]],
    between: tuple[float, float],
    interval: float,
    guard: float,
) -> Figures:
    """The figures `between` two moments. `completed`: for each provider, when each task was here
    whole. A video counts when its download ended between them.
    """
    since, until = between
    hours = (until - since) / 3600
    visits = [visit for each in providers for visit in each.visits if _within(visit.ended, between)]
    latency = fmean((visit.ended or 0.0) - visit.sent for visit in visits) if visits else 0.0
    counted = [_counted(provider, between) for provider in providers]
    durations = [task.duration for tasks in counted for task in tasks]
    delays = [
        here[task.id] - task.ends
        for here, tasks in zip(completed, counted, strict=True)
        for task in tasks
        if task.id in here
    ]
    idle = [pair for provider in providers for pair in _idle(provider, between)]
    videos = len(durations)
    calls = Counter(visit.kind for visit in visits)
    everything = [visit for provider in providers for visit in provider.visits]
    return Figures(
        hours=hours,
        videos=videos,
        limit=_limit(providers[0].limits, durations, guard, latency) * len(providers),
        calls={kind: calls[kind] / max(videos, 1) for kind in ("submit", "poll", "download")},
        refused=sum(visit.status == 429 for visit in everything),
        late_breaches=sum(provider.late_breaches for provider in providers),
        close_by_sending=sum(
            too_close([visit.sent for visit in polls], interval)
            for provider in providers
            for polls in _polls(provider).values()
        ),
        close_by_arrival=sum(
            too_close(
                sorted(visit.arrived for visit in polls if visit.arrived is not None), interval
            )
            for provider in providers
            for polls in _polls(provider).values()
        ),
        delay=median(delays) if delays else 0.0,
        late_delay=quantiles(delays, n=10)[-1] if len(delays) > 1 else 0.0,
        unseen=fmean(unseen for unseen, _ in idle) if idle else 0.0,
        unfilled=fmean(unfilled for _, unfilled in idle) if idle else 0.0,
    )


def too_close(moments: Sequence[float], interval: float) -> int:
    """How many of ordered moments come less than `interval` after the one before."""
    return sum(later - earlier < interval - JITTER for earlier, later in pairwise(moments))


def _limit(limits: Limits, durations: Sequence[float], guard: float, latency: float) -> float:
    """One account's, in videos an hour."""
    window = limits.requests / (limits.period + guard + latency) / CALLS_A_VIDEO
    slots = limits.concurrent / fmean(durations) if durations else window
    return 3600 * min(slots, window)


def _counted(provider: Provider, between: tuple[float, float]) -> list[Task]:
    """The videos whose download ended between two moments."""
    ids = dict.fromkeys(
        visit.task
        for visit in provider.visits
        if visit.kind == "download" and visit.status == 200 and _within(visit.ended, between)
    )
    return [provider.tasks[id_] for id_ in ids if id_ is not None]


def _polls(provider: Provider) -> dict[str | None, list[Visit]]:
    """By the video that they ask for, as they were sent."""
    polls: dict[str | None, list[Visit]] = {}
    for visit in provider.visits:
        if visit.kind == "poll":
            polls.setdefault(visit.task, []).append(visit)
    return polls


def _idle(provider: Provider, between: tuple[float, float]) -> list[tuple[float, float]]:
    """For each slot that was free between two moments: how long that was unseen, and how long it
    was unfilled after. The first slot to be free counts as the first to be filled.
    """
    seen: dict[str | None, float] = {}
    for visit in provider.visits:
        if visit.tells_end and visit.ended is not None:
            seen.setdefault(visit.task, visit.ended)
    created = [task.created for task in provider.tasks.values()][provider.limits.concurrent :]
    over = sorted(provider.tasks.values(), key=lambda task: task.ends)
    return [
        (seen[task.id] - task.ends, refilled - seen[task.id])
        for task, refilled in zip(over, created, strict=False)
        if task.id in seen and _within(task.ends, between)
    ]


def _within(moment: float | None, between: tuple[float, float]) -> bool:
    return moment is not None and between[0] < moment <= between[1]
