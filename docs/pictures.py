"""Draws the picture of `polling.md` from the code that decides: `docs/make.py` calls it."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from gateway.job import Look
from gateway.policy.belief import Belief, Habit, Noise, believe
from gateway.policy.polling import PRICE, Outlook, PollingRule, Running, when_to_poll

HABIT = Habit(math.log(240.0), 0.15, Noise(0.0))
RULE = PollingRule(interval=30.0, expected=240.0, max_wait=600.0, task_life=3600.0)
FIRST, LATER = Look(150.0, 62), Look(205.0, 85)
BLUR = 0.05

WIDTH, HEIGHT, LEFT, RIGHT = 720, 190, 56, 700
FROM, TO = 120.0, 380.0
"""Seconds at the left and at the right edge."""

Points = Sequence[tuple[float, float]]


def polling() -> str:
    """Three drawings: what is believed; the same, looked at closely; what a look costs."""
    wide = [("before any look", "#888", ()), ("after 62 at 150 s", "#26c", (FIRST,))]
    both = (FIRST, LATER)
    near = [*wide[1:], ("after 85 at 205 s, too", "#c33", both)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {3 * HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        "<title>Polling a video of about 240 seconds</title>",
        f'<rect width="{WIDTH}" height="{3 * HEIGHT}" fill="#fff"/>',
        *beliefs(0, "How likely it is to end at each second", wide, FROM, TO),
        *beliefs(1, "The same, looked at closely", near, 234.0, 246.0),
        *costs(2),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def beliefs(
    row: int,
    title: str,
    shown: Sequence[tuple[str, str, tuple[Look, ...]]],
    low: float,
    high: float,
) -> Iterator[str]:
    yield from frame(row, title, low, high)
    for number, (words, colour, looks) in enumerate(shown):
        density = [p for p in _density(believe(HABIT, looks, BLUR)) if low <= p[0] <= high]
        most = max(height for _, height in density)
        yield curve(row, [(at, height / most) for at, height in density], low, high, colour)
        yield text(row, LEFT + 8, 40 + 16 * number, words, colour)


def costs(row: int) -> Iterator[str]:
    title = "What the next look costs, by its moment, in seconds of an idle slot (lowest is chosen)"
    yield from frame(row, title, FROM, TO)
    shown: list[tuple[str, str, tuple[Look, ...]]] = [
        ("the first look", "#888", ()),
        ("the next one, after 62 at 150 s", "#26c", (FIRST,)),
    ]
    for number, (words, colour, looks) in enumerate(shown):
        polled = looks[-1].elapsed if looks else None
        video = Running("video", 0.0, polled, looks, HABIT)
        chosen = when_to_poll(video, RULE, 0.0)
        cost = Outlook(
            believe(HABIT, looks, BLUR), HABIT.noise, BLUR, RULE.interval, PRICE * RULE.interval
        ).cost
        start = max(FROM, looks[-1].elapsed + RULE.interval if looks else 0.0)
        points = [(start + step, cost(start + step)) for step in range(int(TO - start))]
        scale = 20.0  # seconds that the drawing is high
        within = [(at, each / scale) for at, each in points if each <= scale]
        yield curve(row, within, FROM, TO, colour)
        x, y = place(row, chosen, min(cost(chosen) / scale, 1.0), FROM, TO)
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>'
        label = f"{words}: best at {chosen:.0f} s, costs {cost(chosen):.1f}"
        yield text(row, 405, 100 + 16 * number, label, colour)


def frame(row: int, title: str, low: float, high: float) -> Iterator[str]:
    bottom = row * HEIGHT + HEIGHT - 30
    yield f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="#000"/>'
    yield text(row, LEFT, 18, title, "#000")
    step = 20 if high - low > 50 else 1
    for second in range(math.ceil(low), math.floor(high) + 1, step):
        x, _ = place(row, second, 0.0, low, high)
        yield f'<path d="M{x} {bottom}v4" stroke="#000"/>'
        yield f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{second} s</text>'


def curve(row: int, points: Points, low: float, high: float, colour: str) -> str:
    places = [place(row, at, height, low, high) for at, height in points]
    path = "L".join(f"{x} {y}" for x, y in places)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def place(row: int, at: float, height: float, low: float, high: float) -> tuple[float, float]:
    x = LEFT + (RIGHT - LEFT) * (at - low) / (high - low)
    return round(x, 1), round((row + 1) * HEIGHT - 30 - height * (HEIGHT - 60), 1)


def text(row: int, x: float, y: float, words: str, colour: str) -> str:
    return f'<text x="{x}" y="{row * HEIGHT + y}" fill="{colour}">{words}</text>'


def _density(belief: Belief) -> list[tuple[float, float]]:
    return [
        ((low + high) / 2, (belief.chance(high) - belief.chance(low)) / (high - low))
        for low, high in pairwise(belief.edges)
    ]
