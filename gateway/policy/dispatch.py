"""What an account's loop does next: one decision over all the calls that it could make.

A download that failed or is late goes first, since content expires upstream. Then a free slot is
refilled: it is what everybody waits for. Then the other downloads; then polls, the likeliest to
find a video finished first. The order starves nobody: submits are bounded by the slots, which only
polls set free, and by the videos that wait to be fetched; downloads by what has finished, and late
ones take turns with all other calls while they fail; polls and submits, while upstream is in
trouble.

Places in the window are kept for what is soon to come: the next poll of each video and, where it
will probably be found finished, a submit into its slot. Where they would wait for another call, a
look at the progress of a video goes only if it is worth those seconds, and a download waits while
they are more than a place is worth, for one period at most. A place is worth more the fuller the
running videos will keep the window. Where nothing is told of the progress any poll may find the end
but few do: each has a place kept for its submit, and waits until there is one.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from gateway.job import Account, Kind
from gateway.policy.polling import (
    BLIND_PRICE,
    PRICE,
    PollingRule,
    Running,
    may_poll,
    when_to_poll,
)
from gateway.policy.window import Place, WindowRule, free_at, opens_at

LOOK_FOR_ROOM = 60.0
"""Seconds between two looks whether the disk has room again: nobody tells."""

EASY, FULL = 0.6, 2.0
"""From which part of the window on, if the running videos need it, a place is worth more than
`PRICE`, and up to which (docs/performance.md has what was tried).
"""

STEEP = 0.72
"""Intervals that it is worth more for each whole window beyond `EASY`."""

POSSIBLE, LIKELY, URGENT = 0.1, 0.5, 0.7
"""Chances that a poll finds a video finished. From `LIKELY` on a place is kept for its submit
as well. Where nothing is told of the progress, one is from `POSSIBLE` on, and until it is `URGENT`
it waits for that.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """An account's limits: its window, its slots (`concurrent` videos at once), its polling."""

    window: WindowRule
    polling: PollingRule
    concurrent: int
    counts: frozenset[Kind] = frozenset(Kind)
    """The kinds of call that upstream counts; the others need no place."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """A video that waits to be brought home, with no call under way. Not before `retry`.
    `finished`: when it was seen to be finished; `running`: when it was not, the last time.
    """

    job_id: str
    retry: float
    finished: float
    running: float

    def is_late(self, now: float, rules: Rules) -> bool:
        """Whether its content may expire: a download has failed already, or has waited for two
        periods, one more than it leaves its place to others; or nobody has looked for so long that
        the video may have been finished for `max_wait`.
        """
        waited = self.finished + 2 * rules.window.period <= now
        unseen = self.running + rules.polling.max_wait <= now
        return waited or unseen or self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether a download of it has failed already."""
        return self.retry > self.finished


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision may look at, at the moment `now`.

    `slots_taken` counts videos that upstream works on or may work on; `slot_returns` is when the
    next one of unknown fate gives its slot back. `to_fetch` counts finished videos not yet home,
    those under way too; `to_fetch_again`, how many of them have a failed download. `head` is
    first in line among the jobs that are due. `room` says whether the disk has room for one more
    video.
    `polling` are the videos whose poll is under way. `latency`: seconds that a poll takes.
    """

    now: float
    account: Account
    places: Sequence[Place]
    slots_taken: int
    slot_returns: float
    running: Sequence[Running]
    fetching: Sequence[Fetching]
    to_fetch: int
    head: str | None
    room: bool
    looking: bool
    """A GET is under way."""
    submitting: bool = False
    """A POST is under way. One at a time: a broken gateway in front of upstream costs one job."""
    probed: float = -math.inf
    """When an id that can't exist was last asked about."""
    polling: Sequence[Running] = ()
    latency: float = 0.0
    to_fetch_again: int = 0
    fetched_in_vain: bool = False
    """The latest call was a download that failed, or one made again after such a failure."""


@dataclass(frozen=True, slots=True)
class Send:
    """Reserve this call and start it. `job_id` is None for a GET that only asks whether upstream is
    sane.
    """

    kind: Kind
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send before `until` (infinity: before something changes)."""

    until: float


def next_call(view: View, rules: Rules) -> Send | Wait:
    """The one thing to do now. Earlier in `_candidates` goes first among the calls that are due."""
    window_opens = opens_at(rules.window, view.places, view.now)
    until = math.inf
    for due, send in _candidates(view, rules, window_opens):
        due = max(due, view.account.opens, window_opens if send.kind in rules.counts else due)
        if due <= view.now:
            return send
        until = min(until, due)
    if view.head is not None and view.slot_returns > view.now:
        until = min(until, view.slot_returns)
    return Wait(until)


def may_submit(view: View, rules: Rules) -> bool:
    """Whether one more paid task may be created, as far as slots and trust in upstream go."""
    has_slot = view.slots_taken < rules.concurrent
    return has_slot and not view.submitting and _refills(view, rules)


def _refills(view: View, rules: Rules) -> bool:
    """Whether slots that come free are filled again, as far as trust and finished videos go."""
    trusted = view.account.doubt is None and not view.account.paused
    return trusted and not fetches_first(view.to_fetch, rules.concurrent)


def fetches_first(to_fetch: int, concurrent: int) -> bool:
    """Whether so many videos wait to be fetched that none may be submitted."""
    return to_fetch > concurrent


def why_no_submit(
    account: Account, to_fetch: int, concurrent: int, room: bool = True
) -> str | None:
    """What submits wait for, in words, beside time and slots; None: nothing. `room`: whether there
    is some for one video more, as far as the asker can know.
    """
    if account.doubt is not None:
        return account.doubt
    if fetches_first(to_fetch, concurrent):
        return f"{to_fetch} finished videos are to be fetched first"
    return None if room else "there is no room for one video more (the disk, or content.max_bytes)"


def worth(view: View, rules: Rules) -> float:
    """What a place in the window is worth, in intervals of an idle slot: `PRICE`, or `BLIND_PRICE`
    where no video tells of its progress, and the more the fuller the videos that upstream works on
    (where jobs wait, as many as there are slots) will keep the window, with two polls each. To
    hundredths: for each price all is worked out anew.
    """
    videos = [*view.running, *view.polling]
    if not videos or Kind.POLL not in rules.counts:
        return PRICE
    least = PRICE if any(video.habit.noise.tells for video in videos) else BLIND_PRICE
    many = rules.concurrent if view.head is not None else len(videos)
    often = many * fmean(1 / video.habit.seconds for video in videos)
    turn = rules.window.lasts + view.latency
    need = often * (len(rules.counts) + 1) * turn / rules.window.requests
    return least + round(STEEP * (min(max(need, EASY), FULL) - EASY), 2)


def probe_due(view: View, rules: Rules) -> float:
    """When to ask about an id that can't exist, to clear a doubt; infinity: no need to.

    The running videos are asked about first, since that is worth its place in the window. Only when
    each was looked at since the doubt arose and none has cleared it (a task of another key stays
    denied for ever) does a probe go out beside them, no more often than any other poll.
    """
    account = view.account
    if account.doubt is None or account.paused or view.looking:
        return math.inf
    if not view.running:
        return account.submits
    looked = all((task.polled or 0.0) > account.doubt_since for task in view.running)
    return max(account.submits, view.probed + rules.polling.interval) if looked else math.inf


def _candidates(view: View, rules: Rules, opens: float) -> Iterator[tuple[float, Send]]:
    """Calls and when each is due, the most wanted first. `opens`: when there is a place."""
    late: list[tuple[float, Send]] = []
    others: list[Fetching] = []
    for video in sorted(view.fetching, key=lambda video: video.retry):
        if video.is_late(view.now, rules):
            late.append((video.retry, Send(Kind.DOWNLOAD, video.job_id)))
        else:
            others.append(video)
    if not view.fetched_in_vain:
        yield from late
    well = view.account.doubt is None and view.account.trouble is None
    submits: list[tuple[float, Send]] = []
    if view.head is not None and may_submit(view, rules):
        room = 0.0 if view.room else view.now + LOOK_FOR_ROOM
        due = max(view.account.submits, view.account.opens, room)
        submits.append((due, Send(Kind.SUBMIT, view.head)))
    if well:
        yield from submits
    polls = _Polls(view, rules, opens)
    for video in others:
        yield max(video.retry, polls.held(video)), Send(Kind.DOWNLOAD, video.job_id)
    yield from polls.in_order() if well else polls.in_turn(submits)
    if view.fetched_in_vain:
        yield from late


class _Polls:
    """When each running video is to be polled, and what the window must have places for."""

    def __init__(self, view: View, rules: Rules, opens: float) -> None:
        self._view = view
        self._rules = rules
        self._soonest = max(view.now, opens if Kind.POLL in rules.counts else view.now)
        self._worth = worth(view, rules)
        self._best = {
            video.job_id: when_to_poll(video, rules.polling, view.latency, price=self._worth)
            for video in view.running
        }

    def in_order(self) -> Iterator[tuple[float, Send]]:
        """The likeliest to be finished goes first."""
        view = self._view
        for video in sorted(view.running, key=lambda video: -self._chance(video, view.now)):
            yield self._due(video), Send(Kind.POLL, video.job_id)

    def in_turn(self, submits: Sequence[tuple[float, Send]]) -> Iterator[tuple[float, Send]]:
        """Where upstream is in trouble each call may close the account: polls and submits take
        turns, and each goes as soon as it may.
        """
        view = self._view
        turns = [
            (may_poll(video, self._rules.polling), Send(Kind.POLL, video.job_id))
            for video in view.running
        ]
        turns.append((probe_due(view, self._rules), Send(Kind.POLL, None)))
        yield from sorted([*submits, *turns], key=lambda turn: turn[0])

    def held(self, video: Fetching) -> float:
        """Until when a download that is not late leaves its place to calls that can't wait."""
        view, rules = self._view, self._rules
        if fetches_first(view.to_fetch, rules.concurrent) or Kind.DOWNLOAD not in rules.counts:
            return view.now
        if self._download_toll <= self._worth * rules.polling.interval:
            return view.now
        back = (at for at in self._places if at > view.now)
        return min([video.finished + rules.window.period, *back])

    def _due(self, video: Running) -> float:
        """The best moment; where nothing is told, no sooner than there is a place for its submit;
        for a look that missed it, or that others would wait for, the best one from now on at a
        price that has the toll in it. In whole seconds: for each price all is worked out anew.
        """
        view, polling = self._view, self._rules.polling
        best = self._best[video.job_id]
        if best > view.now or self._soonest == math.inf:
            return best
        if self._wants_submit(video, best):
            told = video.habit.noise.tells
            return best if told else min(self._next_pair, self._urgent(video))
        has_missed = self._soonest > best + polling.interval / 30
        toll = round(self._toll(video)) if Kind.POLL in self._rules.counts else 0
        if not has_missed and not toll:
            return best
        price = self._worth + toll / polling.interval
        return when_to_poll(video, polling, view.latency, self._soonest, price)

    def _wants_submit(self, video: Running, moment: float) -> bool:
        """Whether a place is to be kept for a submit, should a poll then find it finished."""
        least = LIKELY if video.habit.noise.tells else POSSIBLE
        return self._chance(video, moment) > least

    def _urgent(self, video: Running) -> float:
        """From when on its poll waits for no other place than its own."""
        latency = self._view.latency
        return video.begun(latency) + video.belief(latency).moment(URGENT)

    def _chance(self, video: Running, moment: float) -> float:
        latency = self._view.latency
        return video.belief(latency).chance(moment - video.begun(latency))

    @cached_property
    def _next_pair(self) -> float:
        """When there are places for a poll and its submit, beside those for submits due already.
        Till then nothing is lost: what the poll might find could not be refilled before.
        """
        view = self._view
        if not self._has_submits or view.account.submits > view.now:
            return view.now
        kept = len(self._submits_soon) + (Kind.POLL in self._rules.counts)
        return self._places[min(kept, len(self._places) - 1)]

    @cached_property
    def _places(self) -> list[float]:
        """When each of the window's places is free."""
        return free_at(self._rules.window, self._view.places, self._view.now)

    def _toll(self, but: Running | None = None) -> float:
        """Seconds that calls soon to come will wait longer, all together, if one more call, that of
        `but`, takes the next place.
        """
        first, *others = self._places
        later = [*others, first + self._rules.window.lasts]
        wanted = sorted(self._soon(but))
        return _waiting(wanted, later) - _waiting(wanted, self._places)

    @cached_property
    def _download_toll(self) -> float:
        """The toll of a download, whichever it is."""
        return self._toll()

    @cached_property
    def _has_submits(self) -> bool:
        """Whether slots that come free are filled by calls that need a place."""
        view, rules = self._view, self._rules
        waiting = view.head is not None and view.room and Kind.SUBMIT in rules.counts
        return waiting and _refills(view, rules)

    @cached_property
    def _submits_soon(self) -> Sequence[float]:
        """When submits will be wanted: into free slots, and those that polls under way set free."""
        view = self._view
        if not self._has_submits:
            return ()
        slots = self._rules.concurrent - view.slots_taken
        slots += sum(self._wants_submit(video, view.now) for video in view.polling)
        return [max(view.now, view.account.submits)] * slots

    def _soon(self, but: Running | None) -> Iterator[float]:
        """When calls will be wanted: polls, and a submit for each slot that they set free."""
        view, counts = self._view, self._rules.counts
        yield from self._submits_soon
        for video in view.running:
            if video is but:
                continue
            best = max(self._best[video.job_id], view.now)
            if Kind.POLL in counts:
                yield best
            if self._has_submits and self._wants_submit(video, best):
                yield max(best, view.account.submits)


def _waiting(wanted: Iterable[float], places: Iterable[float]) -> float:
    """How long calls wait in all, each for its place; both in order of time."""
    pairs = zip(wanted, places, strict=False)
    return math.fsum(max(place - moment, 0.0) for moment, place in pairs)
