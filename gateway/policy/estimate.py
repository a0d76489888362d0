"""How long a job will take until it is completed here: the median of what remains, so that of the
jobs said to be done within T half are.

A video upstream is done when a poll sees its end and its download is here. One that waits is sent
when enough slots have come free, in its turn: each slot is freed by the video that it holds, and
then again and again after what videos usually hold one for. In place of its chances each such
moment is told by `SHARES` of them; where the window binds, no sooner than it has places for.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import NormalDist, fmean

from gateway.job import Kind
from gateway.policy.dispatch import Rules, View, fetches_first, worth
from gateway.policy.polling import Running, when_to_poll
from gateway.policy.window import free_at

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Chances at which a moment that is not sure is told, each for a fifth of it."""

ROUNDS = 3
"""How often each slot comes free before its videos are counted by the pace alone."""

OUTAGE = 3
"""After so many calls in a row that upstream did not serve nobody can tell when it will again."""

_DEVIATIONS = tuple(NormalDist().inv_cdf(share) for share in SHARES)


@dataclass(frozen=True, slots=True)
class Usual:
    """What the latest videos took. `held`: seconds from upstream's taking it until its end was seen
    here, the median, and its deviation `spread`; `cycle`: seconds from one taking until upstream
    takes the next one in the same slot, where one waits; `polls`: of a video, on average;
    `fetches`: seconds from its end's being seen until it was here, the least first, one at least.
    """

    held: float
    spread: float
    cycle: float
    polls: float
    fetches: tuple[float, ...]

    def fetch(self, chance: float = 0.5) -> float:
        """What a download takes no longer than, with this chance."""
        return _quantile(self.fetches, chance)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an account will do next. `done`: when each of its running videos will be completed, by
    job; `freed`: when its slots will take the next videos, each moment for a fifth of a video,
    about in order, none if nobody can tell; `pace`: seconds between two videos after that. `down`:
    upstream does not serve, and nobody can tell anything.
    """

    done: Mapping[str, float] = field(default_factory=dict)
    freed: Sequence[float] = ()
    pace: float = math.inf
    down: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """When those who wait are sent, by all accounts together: by each of `freed` so many fifths of
    a video as `counts` says, and then one video each `pace` seconds.
    """

    freed: Sequence[float]
    counts: Sequence[float]
    pace: float

    def sent(self, position: int) -> float | None:
        """The median moment at which the job at this place in line (1 is next) is sent; None:
        nobody can tell, since nothing is sent now.
        """
        if not self.freed:
            return None
        count = (position - 0.5) * len(SHARES)  # as many have come free as not, on average
        after = bisect_right(self.counts, count)
        if after == len(self.counts):
            return self.freed[-1] + (count - self.counts[-1]) / len(SHARES) * self.pace
        if after == 0:
            return self.freed[0]
        (least, most), (low, high) = (
            self.counts[after - 1 : after + 1],
            self.freed[after - 1 : after + 1],
        )
        return low + (high - low) * (count - least) / (most - least)


def line(forecasts: Sequence[Forecast]) -> Line:
    """One line in front of several accounts. Each goes on at its pace when all of its `freed` are
    over, whatever the others have yet to come.
    """
    ends = sorted((max(each.freed), len(SHARES) / each.pace) for each in forecasts if each.freed)
    freed = sorted(chain.from_iterable(each.freed for each in forecasts))
    counts: list[float] = []
    more = rate = since = 0.0
    left = 0
    for number, moment in enumerate(freed):
        while ends[left][0] < moment:
            more += rate * (ends[left][0] - since)
            since, rate = ends[left][0], rate + ends[left][1]
            left += 1
        more += rate * (moment - since)
        since = moment
        counts.append(number + more)
    rate += math.fsum(each for _, each in ends[left:])
    return Line(freed, counts, len(SHARES) / rate if rate else math.inf)


def forecast(view: View, rules: Rules, usual: Usual, held: Mapping[str, float]) -> Forecast:
    """What an account will do, as far as it can be told from its view. `held`: what `usual.held` is
    of the like of each running video alone, by job, where the account makes several sorts.
    """
    account = view.account
    if account.failures >= OUTAGE:
        return Forecast(down=True)
    places = _Places(view, rules, usual)
    asked = [(view.now - view.latency / 2, video, False) for video in view.polling]  # half is over
    price, soonest = worth(view, rules), max(view.account.opens, view.now)
    wished = [
        (max(when_to_poll(video, rules.polling, view.latency, price=price), soonest), video)
        for video in view.running
    ]
    wished.sort(key=lambda each: _seen(each[1], each[0], view, rules, usual, held).done)
    for number, (best, video) in enumerate(wished):
        turn = places.at(view.now, number * places.a_video + 1)
        asked.append((max(best, turn), video, turn > best))
    seen = [
        _seen(video, moment, view, rules, usual, held, put_off) for moment, video, put_off in asked
    ]
    done = {each.job_id: each.done for each in seen}
    stuck = fetches_first(view.to_fetch_again, rules.concurrent)
    if account.doubt is not None or account.paused or not view.room or stuck:
        return Forecast(done)
    opens = max(account.opens, account.submits, view.now)
    if fetches_first(view.to_fetch, rules.concurrent):
        counts = Kind.DOWNLOAD in rules.counts
        turn = places.at(view.now, view.to_fetch - rules.concurrent if counts else 0)
        opens = max(opens, turn + usual.fetch())
    cycle = usual.cycle
    slots: list[tuple[float, ...]] = [each.at for each in seen]
    others = view.slots_taken - len(seen)
    ghost = min(view.slot_returns, view.now + cycle)
    slots += [(ghost,) * len(SHARES)] * max(others, 0)
    slots += [(opens,) * len(SHARES)] * max(rules.concurrent - view.slots_taken, 0)
    moments = sorted(
        max(opens, moment)
        for at in sorted(slots)[-rules.concurrent :]  # more are taken: the first are not refilled
        for count in range(ROUNDS)
        for moment in _again(at, count, cycle, usual.spread)
    )
    moments = moments[: (ROUNDS - 1) * len(SHARES) * rules.concurrent + len(SHARES)]
    freed = [
        max(moment, places.at(view.now, index / len(SHARES) * places.a_video))
        for index, moment in enumerate(moments)
    ]
    return Forecast(done, freed, max(cycle / rules.concurrent, places.pace))


def fetching(usual: Usual, finished: float, retry: float, now: float) -> float:
    """When a video will be here whose end was seen at `finished` and that is not here yet."""
    if retry > now:
        return retry + usual.fetch()
    longer = usual.fetches[bisect_right(usual.fetches, now - finished) :]
    return finished + _quantile(longer, 0.5) if longer else now + usual.fetch()


@dataclass(frozen=True, slots=True)
class _Seen:
    """When a running video's end will be seen, for each of SHARES; and when it will be here."""

    job_id: str
    at: tuple[float, ...]
    done: float


def _seen(
    video: Running,
    asked: float,
    view: View,
    rules: Rules,
    usual: Usual,
    held: Mapping[str, float],
    put_off: bool = False,
) -> _Seen:
    """If the poll at `asked` finds the video unfinished, the next one comes an interval later at
    least. `put_off`: the window delays the poll, so it goes when it will probably be the last.
    """
    latency, polling = view.latency, rules.polling
    belief = video.belief(latency)
    found = 0.0 if put_off else belief.chance(asked - video.begun(latency))
    late = max(held.get(video.job_id, usual.held) - math.exp(video.habit.mean), latency / 2)
    again = asked if put_off else asked + polling.interval

    def at(share: float, deviation: float) -> float:
        if share <= found:
            return asked + latency
        end = belief.moment(share)
        if put_off:  # what it waits for is its turn, and that is surer than its end
            end = belief.moment(0.5) + deviation * min(belief.deviation, usual.spread)
        return max(video.submitted + end + late, again + latency)

    done = at(0.5, 0.0) + (usual.fetch(0.5 / found) if found >= 0.5 else fmean(usual.fetches))
    return _Seen(video.job_id, tuple(map(at, SHARES, _DEVIATIONS)), done)


def _again(at: Sequence[float], count: int, cycle: float, spread: float) -> Sequence[float]:
    """When a slot comes free once more, `count` videos after the moments `at`."""
    if count == 0:
        return at
    middle = math.fsum(at) / len(at)
    variance = math.fsum((each - middle) ** 2 for each in at) / len(at) + count * spread**2
    return [middle + count * cycle + math.sqrt(variance) * each for each in _DEVIATIONS]


class _Places:
    """When the window has places for the calls to come."""

    def __init__(self, view: View, rules: Rules, usual: Usual) -> None:
        window = rules.window
        self._returns = free_at(window, view.places, view.now)
        self._turn = window.lasts + view.latency
        self._spacing = window.spacing
        self._first = max([place.reserved + window.spacing for place in view.places], default=0.0)
        polls = usual.polls if Kind.POLL in rules.counts else 0.0
        self.a_video = len(rules.counts - {Kind.POLL}) + polls
        """Places that a video takes."""
        self.pace = self.a_video * max(self._turn / window.requests, window.spacing)

    def at(self, now: float, count: float) -> float:
        """When so many calls more than now have had their place."""
        index = round(count) - 1
        first = max(self._first, now)
        if index < 0:
            return first
        spaced = first + index * self._spacing
        turns, index = divmod(index, len(self._returns))
        return max(self._returns[index] + turns * self._turn, spaced)


def _quantile(values: Sequence[float], chance: float) -> float:
    """Between the values, which are sorted; the least and the greatest are the ends."""
    place = min(max(chance * len(values) - 0.5, 0.0), len(values) - 1.0)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
