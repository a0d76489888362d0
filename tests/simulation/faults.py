"""What goes wrong, by seed: with single calls, and for hours on end.

A fault is a word; `network` acts on it. The words of an episode are the same ones: while it lasts,
every call meets it.
"""

from dataclasses import dataclass
from random import Random

CONNECTING = ("refused", "dns", "tls", "no_connection")
"""Before the first byte: upstream knows nothing of the call."""

ANSWERS = (
    "lost_before",  # the request never arrives, and its connection is reset
    "lost_after",  # it is answered, and the answer never arrives
    "never",  # it is answered after longer than anyone waits
    "proxy",  # something in front of upstream answers in HTML; upstream may have seen the call
    "garbage",  # 200, and bytes that mean nothing
    "truncated",  # half of an answer
    "huge",  # 200, and more than anyone reads
    "trickle",  # the answer comes a byte at a time
    "own_500",  # upstream's own JSON error
    "own_503",
    "limited",  # 429: somebody else uses the key
)

OF = {
    "submit": (*CONNECTING, *ANSWERS, "cut_upload", "no_id", "repeated_id"),
    "poll": (
        *CONNECTING,
        *ANSWERS,
        "backwards",
        "unknown_word",
        "odd_progress",
        "not_yet_known",
    ),
    "download": (
        *CONNECTING,
        *ANSWERS,
        "not_yet_there",
        "html",
        "too_short",
        "too_long",
        "wrong_length",
        "no_length",
        "reset",
        "stall",
        "slow",
        "other_range",
        "compressed",
        "redirect",
        "redirect_elsewhere",
    ),
}
"""The faults that a single call may meet, by kind."""

OF_POLLS_ALONE = frozenset(OF["poll"]) - frozenset(ANSWERS) - frozenset(CONNECTING)

EPISODES = ("refused", "dns", "no_connection", "never", "proxy", "own_500", "own_503", "limited",
            "denied", "quota", "lost_before")  # fmt: skip
"""What may last for hours."""


@dataclass(frozen=True)
class Episode:
    """From `begins` until `ends` every call meets `fault`."""

    begins: float
    ends: float
    fault: str


@dataclass
class Faults:
    """`rate`: how many of a hundred single calls meet one, as a fraction. None after `until`."""

    chance: Random
    rate: float
    episodes: tuple[Episode, ...]
    until: float

    def of(self, kind: str, now: float) -> str | None:
        """What this call meets; None: nothing."""
        for episode in self.episodes:
            if episode.begins <= now < episode.ends:
                return episode.fault
        if now < self.until and self.chance.random() < self.rate:
            return self.chance.choice(OF[kind])
        return None


def plan(chance: Random, begins: float, hours: float) -> Faults:
    """The faults of a run of so many hours."""
    ends = begins + hours * 3600
    episodes = []
    for _ in range(chance.randint(0, 1 + int(hours))):
        start = chance.uniform(begins, ends)
        length = 10 ** chance.uniform(0.7, 4.0)  # from five seconds to three hours
        episodes.append(Episode(start, min(start + length, ends), chance.choice(EPISODES)))
    rate = chance.choice((0.0, 0.02, 0.05, 0.15))
    return Faults(chance, rate, tuple(episodes), ends)
