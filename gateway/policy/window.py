"""The exact window: when may one more call go upstream?

Upstream may count a call when it arrives, or when its answer has ended. So a call takes its place
when it is reserved and gives it back `period + guard` seconds after its answer ended. At most
`requests` places are taken at any moment; then upstream sees no more than that in any period,
however it counts. (A leaky bucket, as in aiolimiter, can't promise this: a limiter of 10 in 60 s
let 19 through in its first minute.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WindowRule:
    """An account's request limit. Seconds; `spacing` is the least distance between two calls."""

    requests: int
    period: float
    guard: float
    spacing: float = 0.0

    @property
    def lasts(self) -> float:
        """Seconds that a place is taken after its call has ended."""
        return self.period + self.guard


@dataclass(frozen=True, slots=True)
class Place:
    """One call's place: from `reserved` on; `ended` is None while its answer has not ended."""

    reserved: float
    ended: float | None


def returns_at(rule: WindowRule, place: Place) -> float:
    """When the place is free again; infinity while its call is under way."""
    return math.inf if place.ended is None else later(place.ended, rule.period, rule.guard)


def taken(rule: WindowRule, places: Sequence[Place], now: float) -> int:
    """How many places are taken at `now`."""
    return sum(returns_at(rule, place) > now for place in places)


def free_at(rule: WindowRule, places: Sequence[Place], now: float) -> list[float]:
    """When each of the window's places is free, the next one first: `now`, or when a call comes
    back; one under way is taken to end now. Of more calls than places, since there were more of
    these before, the first ones give none back.
    """
    back = (min(returns_at(rule, place), now + rule.lasts) for place in places)
    held = sorted(at for at in back if at > now)
    return [now] * (rule.requests - len(held)) + held[-rule.requests :]


def opens_at(rule: WindowRule, places: Sequence[Place], now: float) -> float:
    """The earliest moment at which one more call may be reserved; infinity: only when one has
    ended.
    """
    held = sorted(back for place in places if (back := returns_at(rule, place)) > now)
    opens = now if len(held) < rule.requests else held[len(held) - rule.requests]
    latest = max((place.reserved for place in places), default=None)
    return opens if latest is None else max(opens, later(latest, rule.spacing))


def later(moment: float, *seconds: float) -> float:
    """`moment` and `seconds` later, rounded up: at Unix times floats lie a quarter of a microsecond
    apart, and a sum rounded down would be too early.
    """
    total = math.fsum((moment, *seconds))
    early = math.fsum((total, -moment, *(-each for each in seconds))) < 0
    return math.nextafter(total, math.inf) if early else total
