"""What must hold at the end of a seed, by upstream's record and what callers were told.

Limits are judged by the provider itself, call by call; here stands what needs the whole story.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Protocol

from .callers import Callers, Wish
from .faults import CONNECTING
from .upstream import FAILURES, Provider, Task, Visit

INTERVAL = 30.0
PASSING = ("overload", "quota")
"""Fates of a task after which its job is sent again."""

REQUEUES = 3


class Story(Protocol):
    """What a world can be asked."""

    crashes: list[float]
    stops: list[tuple[float, float]]
    """From when until when the gateway was stopping in order."""

    @property
    def callers(self) -> Callers: ...

    @property
    def provider(self) -> Provider: ...


def judge(story: Story) -> Iterator[str]:
    """Everything that should not have happened, a line each."""
    submits: dict[str, list[Visit]] = defaultdict(list)
    for visit in story.provider.visits:
        if visit.kind == "submit" and visit.prompt is not None:
            submits[visit.prompt].append(visit)
    tasks: dict[str, list[Task]] = defaultdict(list)
    for task in story.provider.tasks.values():
        tasks[task.prompt].append(task)
    yield from _window(story.provider)
    yield from _stops_cut_no_post(story)
    yield from _one_post_a_job(story, submits)
    yield from _sane_before_the_next(story.provider.visits)
    yield from _polls_apart(story)
    unexplained = 0
    for wish in story.callers.wishes:
        if wish.id is None or wish.deleting is not None:
            yield from _deleted_in_time(wish, submits[wish.prompt])
            if wish.id is None and wish.repeats:
                yield f"{wish.prompt}: asked for again and again, and never accepted"
            continue
        if not wish.is_over:
            yield f"{wish.prompt}: accepted, and never over ({wish.status})"
        elif wish.status == "completed":
            wanted = {sha256(t.content).hexdigest() for t in tasks[wish.prompt] if whole(t)}
            if wish.sha256 not in wanted:
                yield f"{wish.prompt}: its content is not what upstream made"
        elif wish.code == "submission_outcome_unknown":
            if not any(map(unproven, submits[wish.prompt])):
                unexplained += 1  # its call was reserved, and never made
        elif not _may_fail(wish, tasks[wish.prompt]):
            yield f"{wish.prompt}: failed with {wish.code}, and upstream did nothing like it"
    if unexplained > len(story.crashes):
        yield f"{unexplained} jobs of unknown outcome that no crash explains"


def _window(provider: Provider) -> Iterator[str]:
    """Never more calls in one period than there may be, as upstream counts them."""
    came = [visit for visit in provider.visits if visit.arrived is not None]
    moments = sorted(
        (visit.arrived if provider.by == "arrival" else visit.noted) or 0.0 for visit in came
    )
    for first, last in zip(moments, moments[provider.requests :], strict=False):
        if last - first < provider.period:
            yield f"more than {provider.requests} calls from {first} to {last}"


def _stops_cut_no_post(story: Story) -> Iterator[str]:
    """An orderly stop waits for the answer to a POST."""
    for visit in story.provider.visits:
        if visit.kind != "submit" or visit.fault is not None or visit.whole or not visit.ended:
            continue
        if any(begin <= visit.ended <= end for begin, end in story.stops):
            yield f"{visit.prompt}: its POST was cut off by an orderly stop"


def whole(task: Task) -> bool:
    return task.fate == "completed"


def unproven(visit: Visit) -> bool:
    """Whether nobody could tell from outside whether this POST made a task."""
    if visit.fault in (*CONNECTING, "cut_upload") or (visit.proves_refusal and visit.whole):
        return False
    harmless = not visit.met or visit.fault in (None, "trickle", "own_500")
    return not (visit.whole and visit.created and harmless)


def _one_post_a_job(story: Story, submits: dict[str, list[Visit]]) -> Iterator[str]:
    """No second POST unless the first one was refused or never came, or its task failed
    unbilled.
    """
    asked_for = {wish.prompt for wish in story.callers.wishes if wish.resubmit}
    for prompt, visits in submits.items():
        risky = 0
        for first, second in pairwise(visits):
            refused = visit_refused(first)
            task = story.provider.tasks.get(first.created or "")
            passed = task is not None and task.fate in PASSING and 0 <= task.told <= second.sent
            if refused or passed:
                continue
            risky += 1
            if prompt not in asked_for or risky > 1:
                yield f"{prompt}: POSTed as call {first.number}, and again as {second.number}"
        again = sum(t.prompt == prompt and t.fate in PASSING for t in story.provider.tasks.values())
        if again > REQUEUES + 1 + (prompt in asked_for):
            yield f"{prompt}: sent {again} times although it failed each time"


def visit_refused(visit: Visit) -> bool:
    """Whether it is sure that it made no task, as the gateway could know."""
    return visit.fault in (*CONNECTING, "cut_upload") or (visit.proves_refusal and visit.whole)


def _sane_before_the_next(visits: list[Visit]) -> Iterator[str]:
    """After a POST of unknown outcome none goes out before a GET was answered sanely."""
    doubtful: Visit | None = None
    for visit in sorted(visits, key=lambda visit: visit.sent):
        if visit.kind != "submit":
            continue
        if doubtful is not None and doubtful.ended is not None:
            ended, until = doubtful.ended, visit.sent
            sane = any(
                each.sane and each.whole and ended <= (each.ended or 0.0) <= until
                for each in visits
            )
            if not sane:
                yield f"call {visit.number}: a POST in doubt of call {doubtful.number}"
        doubtful = visit if unproven(visit) else None


def _polls_apart(story: Story) -> Iterator[str]:
    """No two polls of one video within the interval, unless a crash made the first one
    forgotten.
    """
    last: dict[str, Visit] = {}
    for visit in story.provider.visits:
        if visit.kind != "poll" or visit.task is None:
            continue
        before, last[visit.task] = last.get(visit.task), visit
        if before is None or before.fault in CONNECTING or visit.sent - before.sent >= INTERVAL:
            continue
        at = bisect_left(story.crashes, before.sent)
        if at == len(story.crashes) or story.crashes[at] > visit.sent:
            yield f"calls {before.number} and {visit.number}: two polls of {visit.task} too soon"


def _deleted_in_time(wish: Wish, submits: list[Visit]) -> Iterator[str]:
    """What was deleted before it was sent is never sent."""
    if wish.deleted is not None:
        for visit in submits:
            if visit.sent > wish.deleted:
                yield f"{wish.prompt}: deleted, and then sent as call {visit.number}"


def _may_fail(wish: Wish, tasks: list[Task]) -> bool:
    """Whether upstream's record bears out the reason that a caller was given."""
    assert wish.over_at is not None
    fates = [task.fate for task in tasks]
    for fate, (code, _) in FAILURES.items():
        if wish.code == code:
            most = REQUEUES + 1 if fate in PASSING else 1
            return sum(f in PASSING for f in fates) >= most if most > 1 else fate in fates
    match wish.code:
        case "generation_timeout":
            return "stuck" in fates
        case "upstream_lost_task":
            return "lost" in fates
        case "content_expired":
            return any(whole(task) and task.expires <= wish.over_at for task in tasks)
    return False
