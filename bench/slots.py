"""How near to the limit of its slots and its window an account comes: days in minutes, on virtual
time, with the real engine; beside it two programs that do without a gateway.

python -m bench.slots [--hours H] [--rows NAME ...] [--seed S] [--workers N]
python -m bench.slots --accounts N [--hours H] [--seed S] [--profile]

Prints Markdown and ends with status 1 when an aim is missed. Each row runs in a process of its own
and is the same whenever it is run with the same seed. The figures are of `--hours` hours after one
to warm up; all of them are taken from upstream's own record.
"""

import argparse
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from random import Random

import structlog

from gateway.config import Polling

from .accounts import run_accounts
from .figures import Figures, measure
from .peers import Naive, Sdk
from .provider import LATENCY, NO_LATENCY, Limits, Videos
from .virtual import BEGINS, Folder, Front, World

INTERVAL = 30.0
EXPECTED = 240.0
"""What the gateway is told that videos take, whatever they do: the rest it must learn."""

GUARD = 0.0
WARM_UP = 1.0
"""Hours before anything is measured."""

SDK_HOURS = 4.0
"""Hours measured at most of the SDK's callers, who call more often in one than others in a day."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of video. `share`: of the limit, `calls` a video and `delay` in seconds are aims."""

    videos: Videos
    share: float = 0.0
    calls: float | None = None
    delay: float | None = None
    peers: bool = False


ROWS = {
    "240-15-exact": Row(Videos(240, 0.15, "exact"), 0.985, calls=4.6, delay=5.0, peers=True),
    "240-40-exact": Row(Videos(240, 0.40, "exact"), 0.985),
    "240-15-noisy": Row(Videos(240, 0.15, "noisy"), 0.96),
    "240-15-none": Row(Videos(240, 0.15, "none"), 0.94),
    "240-15-jumping": Row(Videos(240, 0.15, "jumping")),
    "240-15-stuck": Row(Videos(240, 0.15, "stuck")),
    "120-15-exact": Row(Videos(120, 0.15, "exact"), 0.94),
    "120-40-exact": Row(Videos(120, 0.40, "exact"), 0.92),
    "60-15-exact": Row(Videos(60, 0.15, "exact"), 0.98, peers=True),
    "60-40-exact": Row(Videos(60, 0.40, "exact"), 0.91),
    "20-15-exact": Row(Videos(20, 0.15, "exact"), 0.985),
}
"""By name: mean seconds, spread in percent, how progress is told."""

HEADER = (
    "| video | latency | who | videos/h | limit | share | aim | calls a video (submit, poll, "
    "download) | 429 | late | polls < 30 s: sent, arrived | delay median, p90 | slot idle: unseen, "
    "unfilled | lost | missed |"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the table. `who`: gateway, naive, sdk, or sdk-strict: upstream counts the calls
    that it refuses.
    """

    name: str
    who: str
    latency: tuple[float, float]
    hours: float


@dataclass(frozen=True, slots=True)
class Result:
    run: Run
    figures: Figures
    lost: int


def perform(
    run: Run, seed: int, limits: Limits, *, told: Limits | None = None, warm_up: float = WARM_UP
) -> Result:
    """One run, in this process, which is of use for such runs only from now on.

    `told`: what the gateway takes for the limits, where they are others.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    row = ROWS[run.name]
    limits = replace(limits, strict=run.who == "sdk-strict")
    world = World(f"{seed} {run.name} {run.latency}", row.videos, run.latency, limits)
    (provider,) = world.providers
    marks = [(warm_up + run.hours, lambda: None)]
    completed: dict[str, float]
    lost = 0
    if run.who == "gateway":
        with Folder() as folder:
            polling = Polling(interval=INTERVAL, expected=EXPECTED)
            front = Front(world, folder, polling, GUARD, told or limits)
            world.run(front.run(), marks)
            front.check()
        (completed,) = front.completed
    else:
        peer = Naive(provider) if run.who == "naive" else Sdk(provider, Random(f"sdk {seed}"))
        world.run(peer.run(), marks)
        completed, lost = peer.completed, peer.lost
    since = BEGINS + warm_up * 3600
    between = (since, since + run.hours * 3600)
    return Result(run, measure([provider], [completed], between, INTERVAL, GUARD), lost)


def plan(names: Sequence[str], hours: float) -> Iterator[Run]:
    """The gateway with and without latency; its peers with it, where a row has them."""
    for name in names:
        for latency in (LATENCY, NO_LATENCY):
            yield Run(name, "gateway", latency, hours)
            if ROWS[name].peers and latency is LATENCY:
                yield Run(name, "naive", latency, hours)
                yield Run(name, "sdk", latency, min(hours, SDK_HOURS))
                yield Run(name, "sdk-strict", latency, min(hours, SDK_HOURS))


def missed(result: Result) -> list[str]:
    """The aims that a run of the gateway does not reach, in words. Peers have none."""
    if result.run.who != "gateway":
        return []
    row, figures = ROWS[result.run.name], result.figures
    aims = {
        f"share < {row.share}": figures.share < row.share,
        f"calls > {row.calls}": row.calls is not None and figures.calls_a_video > row.calls,
        f"delay > {row.delay} s": row.delay is not None and figures.delay > row.delay,
        "429": figures.refused > 0,
        "window by end": figures.late_breaches > 0,
        "polls too close": figures.close_by_sending > 0,
    }
    return [aim for aim, is_missed in aims.items() if is_missed]


def line(result: Result) -> str:
    """The table's line."""
    run, figures, row = result.run, result.figures, ROWS[result.run.name]
    videos = row.videos
    latency = "0" if run.latency == NO_LATENCY else f"{run.latency[0]} to {run.latency[1]} s"
    ours = run.who == "gateway"
    calls = ", ".join(f"{number:.2f}" for number in figures.calls.values())
    aims = [f">= {row.share}" if ours and row.share else ""]
    aims += [f"<= {row.calls} calls" if ours and row.calls else ""]
    aims += [f"<= {row.delay:g} s" if ours and row.delay else ""]
    cells = (
        f"{videos.mean:g} s, {videos.spread:.0%}, {videos.progress}",
        latency,
        f"{run.who} ({run.hours:g} h)" if run.who.startswith("sdk") else run.who,
        f"{figures.rate:.2f}",
        f"{figures.limit:.2f}",
        f"{figures.share:.4f}",
        "; ".join(filter(None, aims)),
        f"{figures.calls_a_video:.2f} ({calls})",
        str(figures.refused),
        str(figures.late_breaches),
        f"{figures.close_by_sending}, {figures.close_by_arrival}",
        f"{figures.delay:.1f}, {figures.late_delay:.1f} s",
        f"{figures.unseen:.2f}, {figures.unfilled:.2f} s",
        str(result.lost),
        ", ".join(missed(result)),
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.slots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--hours", type=float, help="measured: of each row (24), with --accounts (1)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS], metavar="NAME",
                        help=f"of {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--accounts", type=int, help="instead: so many accounts in one process")
    parser.add_argument("--profile", action="store_true", help="with --accounts: where time goes")
    asked = parser.parse_args()
    command = " ".join(["python -m bench.slots", *sys.argv[1:]])
    print(f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, seed {asked.seed}", flush=True)
    if asked.accounts:
        return run_accounts(asked.accounts, asked.seed, asked.hours or 1.0, asked.profile)
    hours = asked.hours or 24.0
    print(f"{hours:g} h after {WARM_UP:g} to warm up, guard {GUARD:g}, interval {INTERVAL:g} s, ")
    print(f"expected {EXPECTED:g} s in all rows.\n")
    print(f"{HEADER}\n|{' --- |' * HEADER.count(' | ')} --- |", flush=True)
    work = partial(perform, seed=asked.seed, limits=Limits())
    runs = plan(asked.rows, hours)
    failed = False
    with multiprocessing.get_context("spawn").Pool(asked.workers, maxtasksperchild=1) as pool:
        for result in pool.imap(work, runs):
            print(line(result), flush=True)
            failed = failed or bool(missed(result))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
