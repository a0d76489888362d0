"""How near to the limit of its slots anyone comes where nothing is told of the progress.

python -m bench.blind [--hours H] [--seed S]

Plays a policy of five numbers that knows how long videos take, with calls that take no time and
without the gateway: the row "240 s, 15%, none" of `bench.slots`. Beside the documented window it
plays easier ones, and one in which downloads take no place. Prints Markdown.
"""

import argparse
from collections import deque
from dataclasses import dataclass, replace
from random import Random
from statistics import NormalDist

from .provider import Limits, Videos, Window

VIDEOS = Videos(240, 0.15, "none")
INTERVAL = 30
"""Seconds between two polls of a video. So they see its end half of that late, on average."""

FIRST = 0.02
"""The chance to be finished at which a video is polled first."""

ALONE = 0.93
"""From this chance on a poll goes even where there is no place for a submit after it."""

LEFT, IMPATIENCE, LONGEST = 6.85, 0.028, 120
"""Places that a download leaves free, how many fewer for each second, and seconds at most."""

WINDOWS = {
    "10 in 60 s": (Limits(), True),
    "10 in 60 s, downloads uncounted": (Limits(), False),
    "12 in 60 s": (replace(Limits(), requests=12), True),
    "10 in 50 s": (replace(Limits(), period=50.0), True),
    "10 in 1 s": (replace(Limits(), period=1.0), True),
}

_ENDS = NormalDist(VIDEOS.mean, VIDEOS.spread * VIDEOS.mean)


@dataclass(slots=True)
class Slot:
    """A slot and its latest video. Seconds, whole but for `ends`. `looked`: its latest poll."""

    empty: bool = True
    begun: int = 0
    ends: float = 0.0
    looked: int | None = None

    def chance(self, now: int) -> float:
        """That a poll finds the video finished."""
        before = 0.0 if self.looked is None else _ENDS.cdf(self.looked - self.begun)
        return (_ENDS.cdf(now - self.begun) - before) / max(1.0 - before, 1e-12)

    def next_poll(self) -> int:
        """The earliest, or the first that is worth it."""
        if self.looked is None:
            return self.begun + round(_ENDS.inv_cdf(FIRST))
        return self.looked + INTERVAL


def play(hours: float, seed: int, limits: Limits, downloads: bool) -> tuple[float, float]:
    """The part of the time in which slots are busy, and calls a video; `downloads`: they count."""
    chance = Random(seed)
    slots = [Slot() for _ in range(limits.concurrent)]
    window = Window(limits)
    finished: deque[int] = deque()  # when each was seen to be, of those to be downloaded
    now, until = 0, round(hours * 3600)
    calls = videos = 0
    busy = 0.0

    def refill() -> None:
        nonlocal calls, videos, busy
        for slot in slots:
            if slot.empty and window.room(now) > 0:
                seconds = VIDEOS.draw(chance)
                slot.empty, slot.begun, slot.ends, slot.looked = False, now, now + seconds, None
                window.count(now)
                calls, videos, busy = calls + 1, videos + 1, busy + seconds

    while now < until:
        refill()
        due = [slot for slot in slots if not slot.empty and slot.next_poll() <= now]
        for slot in sorted(due, key=lambda slot: slot.chance(now), reverse=True):
            if window.room(now) < (1 if slot.chance(now) >= ALONE else 2):
                continue
            window.count(now)
            calls += 1
            slot.looked = now
            if slot.ends <= now:
                slot.empty = True
                finished.append(now)
                refill()
        while finished and window.room(now) > 0:
            waited = now - finished[0]
            if waited < LONGEST and window.room(now) < LEFT - IMPATIENCE * waited:
                break
            finished.popleft()
            calls += 1
            if downloads:
                window.count(now)
        waits = finished or any(slot.empty or slot.next_poll() <= now for slot in slots)
        now = now + 1 if waits else min(slot.next_poll() for slot in slots)
    return busy / (limits.concurrent * now), calls / videos


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.blind",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=1000.0, help="played of each line (1000)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    most = VIDEOS.mean / (VIDEOS.mean + INTERVAL / 2)
    print("| window | slots busy | of the most that polls can see | calls a video |")
    print("| --- | --- | --- | --- |")
    for name, (limits, downloads) in WINDOWS.items():
        share, calls = play(asked.hours, asked.seed, limits, downloads)
        print(f"| {name} | {share:.4f} | {share / most:.4f} | {calls:.2f} |", flush=True)


if __name__ == "__main__":
    main()
