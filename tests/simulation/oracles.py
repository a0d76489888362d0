"""What must hold at the end of a seed, by upstream's record and what callers were told.

A wish that an operator had sent anew, or made of a task, takes the place of the failed one before
it: what was sent for its prompt is its own from then on.

Limits are judged by the provider itself, call by call; here stands what needs the whole story.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Protocol

from .accounts import Account
from .callers import Callers, Wish
from .faults import CONNECTING
from .operator import Operator
from .upstream import FAILURES, Provider, Task, Visit

PASSING = ("overload", "quota")
"""Fates of a task after which its job is sent again."""

REQUEUES = 3


class Story(Protocol):
    """What a world can be asked."""

    crashes: list[float]
    stops: list[tuple[float, float]]
    """From when until when the gateway was stopping in order."""
    visits: list[Visit]
    accounts: list[Account]

    @property
    def callers(self) -> Callers: ...

    @property
    def operator(self) -> Operator: ...


@dataclass
class Part:
    """What upstream has seen of one wish: POSTs in order, and the tasks that were its own."""

    wish: Wish
    posts: list[Visit]
    tasks: list[Task]


def judge(story: Story) -> Iterator[str]:
    """Everything that should not have happened, a line each."""
    for account in story.accounts:
        theirs = [visit for visit in story.visits if visit.account == account.name]
        yield from _window(account.provider, theirs)
        yield from _sane_before_the_next(theirs)
        yield from _polls_apart(account.provider, theirs, story.crashes)
        yield from _each_asks_for_its_own(account.provider, theirs)
    yield from _stops_cut_no_post(story)
    yield from _paused_sends_nothing(story)
    tasks = {
        (account.name, task.id): task
        for account in story.accounts
        for task in account.provider.tasks.values()
    }
    unexplained = 0
    for part in _parts(story, tasks):
        wish = part.wish
        yield from _one_post_a_job(part, tasks)
        if wish.id is None or wish.deleting is not None:
            yield from _deleted_in_time(wish, part.posts)
            if wish.id is None and wish.repeats:
                yield f"{wish.prompt}: asked for again and again, and never accepted"
            continue
        if not wish.is_over:
            yield f"{wish.prompt}: accepted, and never over ({wish.status})"
        elif wish.status == "completed":
            wanted = {sha256(t.content).hexdigest() for t in part.tasks if whole(t)}
            if wish.sha256 not in wanted:
                yield f"{wish.prompt}: its content is not what upstream made"
        elif wish.code == "submission_outcome_unknown":
            if not any(post.unwritten or unproven(post) for post in part.posts):
                unexplained += 1  # its call was reserved, and never made
        elif not _may_fail(wish, part.tasks):
            yield f"{wish.prompt}: failed with {wish.code}, and upstream did nothing like it"
    if unexplained > len(story.crashes) * len(story.accounts):  # each reserves one at a time
        yield f"{unexplained} jobs of unknown outcome that no crash explains"


def _parts(story: Story, tasks: Mapping[tuple[str, str], Task]) -> Iterator[Part]:
    """The part of each wish in what upstream has seen."""
    posts: dict[str, list[Visit]] = defaultdict(list)
    for visit in story.visits:
        if visit.kind == "submit" and visit.prompt is not None:
            posts[visit.prompt].append(visit)
    until = {id(w.stands_in_for): w.at for w in story.callers.wishes if w.stands_in_for}
    for wish in story.callers.wishes:
        begins = wish.at if wish.stands_in_for else -math.inf
        ends = until.get(id(wish), math.inf)
        own = [visit for visit in posts[wish.prompt] if begins <= visit.sent < ends]
        made = [(visit.account, visit.created) for visit in own if visit.created is not None]
        if wish.adopted is not None:
            made.insert(0, wish.adopted)
        yield Part(wish, own, [tasks[each] for each in made])


def _window(provider: Provider, visits: list[Visit]) -> Iterator[str]:
    """Never more calls in one period than there may be, as upstream counts them."""
    came = [visit for visit in visits if visit.arrived is not None]
    moments = sorted(
        (visit.arrived if provider.by == "arrival" else visit.noted) or 0.0 for visit in came
    )
    for first, last in zip(moments, moments[provider.requests :], strict=False):
        if last - first < provider.period:
            yield f"{provider.name}: more than {provider.requests} calls from {first} to {last}"


def _each_asks_for_its_own(provider: Provider, visits: list[Visit]) -> Iterator[str]:
    """A task is asked for where it was made. A probe's id is like no task's."""
    for visit in visits:
        if visit.task is None or visit.task in provider.tasks or visit.task.startswith("video_"):
            continue
        yield f"call {visit.number}: {provider.name} was asked for {visit.task}"


def _paused_sends_nothing(story: Story) -> Iterator[str]:
    """A paused account sends no submit."""
    for hold in story.operator.holds:
        for visit in story.visits:
            ours = visit.kind == "submit" and visit.account == hold.account
            if ours and hold.begins < visit.sent < hold.ends:
                yield f"call {visit.number}: a POST although {hold.account} was paused"


def _stops_cut_no_post(story: Story) -> Iterator[str]:
    """An orderly stop waits for the answer to a POST."""
    for visit in story.visits:
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


def _one_post_a_job(part: Part, tasks: Mapping[tuple[str, str], Task]) -> Iterator[str]:
    """No second POST, over whichever account, unless the first one was refused or never came, or
    its task failed unbilled.
    """
    wish = part.wish
    if wish.adopted is not None and part.posts:
        task, first = tasks[wish.adopted], part.posts[0]
        if not _passed(task, first.sent):
            yield f"{wish.prompt}: {task.id} was adopted, and POSTed again as {first.number}"
    risky = 0
    for one, two in pairwise(part.posts):
        task = tasks.get((one.account, one.created or ""))
        if visit_refused(one) or (task is not None and _passed(task, two.sent)):
            continue
        risky += 1
        if not wish.resubmit or risky > 1:
            yield f"{wish.prompt}: POSTed as call {one.number}, and again as {two.number}"
    again = sum(task.fate in PASSING for task in part.tasks)
    if again > REQUEUES + 1 + wish.resubmit:
        yield f"{wish.prompt}: sent {again} times although it failed each time"


def _passed(task: Task, at: float) -> bool:
    """Whether somebody had been told by then that it failed for a passing reason."""
    return task.fate in PASSING and 0 <= task.told <= at


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


def _polls_apart(provider: Provider, visits: list[Visit], crashes: list[float]) -> Iterator[str]:
    """No two polls of one video within the interval, unless a crash made the first one
    forgotten.
    """
    last: dict[str, Visit] = {}
    for visit in visits:
        if visit.kind != "poll" or visit.task is None:
            continue
        before, last[visit.task] = last.get(visit.task), visit
        if before is None or before.fault in CONNECTING:
            continue
        if visit.sent - before.sent >= provider.interval:
            continue
        at = bisect_left(crashes, before.sent)
        if at == len(crashes) or crashes[at] > visit.sent:
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
