"""How well callers are told when their videos will be done: of the jobs said to be done within T,
half should be.

python -m bench.estimates [--hours H] [--rows NAME ...] [--seed S] [--workers N]

Prints Markdown and ends with status 1 when a share is out of bounds. On virtual time, with the real
engine, latency 0.3 to 1.5 s, each row in a process of its own. Where the queue is full, jobs are
asked about at random moments: those with 0, 5, 20 and 100 before them, all that run, all that are
being fetched; and each as its download begins. Where callers come at random and seldom enough,
each is asked about as it is accepted.
"""

import argparse
import asyncio
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from statistics import median

import structlog

from gateway.app import Gateway
from gateway.config import Polling
from gateway.job import Event, Job, JobMoved, State
from gateway.ledger.transitions import accept

from .provider import LATENCY, Limits
from .slots import EXPECTED, GUARD, INTERVAL, ROWS, WARM_UP
from .virtual import BEGINS, Folder, Front, World, feed, make_job

BEFORE = (0, 5, 20, 100)
"""Places in line that are asked about, by how many are before them."""

EVERY = 40.0
"""Seconds between two moments of asking, on average."""

LOADS = {"full": None, "half": 0.5, "most": 0.8}
"""How much is asked for, as a part of what the slots could do; None: the queue is full."""

NAMES = ("240-15-exact", "240-15-none", "60-15-exact")

LEAST, MOST = 0.4, 0.6
"""What the share of those done within their estimate should be."""


@dataclass(frozen=True, slots=True)
class Run:
    name: str
    load: str
    hours: float


@dataclass(slots=True)
class Told:
    """What was told of jobs of one kind, and what became of it: seconds told, seconds it took."""

    exact: list[tuple[float, float]] = field(default_factory=list)
    nothing: int = 0

    def share(self) -> float:
        """Of those done within what was told."""
        return sum(took <= told for told, took in self.exact) / len(self.exact)

    def shown(self) -> float:
        """The same of the whole seconds that callers see."""
        return sum(took <= max(1, round(told)) for told, took in self.exact) / len(self.exact)

    def error(self) -> float:
        """How far off it is, the median."""
        return median(abs(told - took) for told, took in self.exact)


class Asking:
    """Asks a gateway about its jobs. `told` is by kind of job, in words."""

    def __init__(self, world: World, gateway: Gateway, chance: Random, since: float) -> None:
        self._now = world.loop.time
        self._gateway = gateway
        self._chance = chance
        self._since = since
        self._open: dict[str, list[tuple[str, float, float]]] = {}
        self._moves: dict[str, Job] = {}
        self.told: dict[str, Told] = {}
        gateway.ledger.listen(self._note)

    async def at_random(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / EVERY))
            jobs = sorted(self._moves.values(), key=lambda job: job.seq)
            queued = [job for job in jobs if job.state is State.QUEUED]
            for before in BEFORE:
                if before < len(queued):
                    self.ask(f"queued, {before} before it", queued[before])
            for job in jobs:
                if job.state is State.RUNNING:
                    self.ask("running", job)
                elif job.state is State.FETCHING:
                    self.ask("fetching", job)

    async def arrivals(self, between: float) -> None:
        """Callers come at random, so many seconds apart on average. Until cancelled."""
        number = 0
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / between))
            number += 1
            job = make_job(number, self._gateway.clock)
            change = await self._gateway.ledger.commit(accept(job))
            (job,) = change.jobs
            before = self._gateway.ledger.live.line.position(job) - 1
            label = "0" if before == 0 else "1 to 5" if before <= 5 else "more"
            self.ask(f"accepted, {label} before it", job)

    def ask(self, kind: str, job: Job) -> None:
        """Note what is told of a job now."""
        if self._now() < self._since:
            return
        seconds = self._gateway.estimates.seconds(job)
        if seconds is None:
            self.told.setdefault(kind, Told()).nothing += 1
        else:
            self._open.setdefault(job.id, []).append((kind, self._now(), seconds))

    def _note(self, event: Event) -> None:
        if not isinstance(event, JobMoved):
            return
        job = event.job
        self._moves[job.id] = job
        if job.state is State.FETCHING:
            self.ask("download begins", job)
        elif job.state is State.COMPLETED:
            del self._moves[job.id]
            for kind, asked, seconds in self._open.pop(job.id, ()):
                told = self.told.setdefault(kind, Told())
                told.exact.append((seconds, self._now() - asked))


def perform(run: Run, seed: int, warm_up: float = WARM_UP) -> tuple[Run, dict[str, Told]]:
    """One run, in this process, which is of use for such runs only from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    videos, limits, load = ROWS[run.name].videos, Limits(), LOADS[run.load]
    world = World(f"{seed} {run.name} {run.load}", videos, LATENCY, limits)
    chance = Random(f"asking {seed}")
    found: list[Asking] = []

    async def work(gateway: Gateway) -> None:
        asking = Asking(world, gateway, chance, BEGINS + warm_up * 3600)
        found.append(asking)
        async with asyncio.TaskGroup() as group:
            group.create_task(asking.at_random())
            if load is None:
                group.create_task(feed(gateway.ledger, gateway.clock, BEFORE[-1] + 2))
            else:
                rate = min(limits.concurrent / videos.mean, limits.requests / limits.period / 3)
                group.create_task(asking.arrivals(1 / (rate * load)))

    with Folder() as folder, suppress(asyncio.CancelledError):
        polling = Polling(interval=INTERVAL, expected=EXPECTED)
        front = Front(world, folder, polling, GUARD, limits, work)
        world.run(front.run(), [(warm_up + run.hours, lambda: None)])
        front.check()
    return run, found[0].told


def lines(run: Run, told: dict[str, Told]) -> Iterator[tuple[str, bool]]:
    """The table's lines, and whether a share is out of bounds."""
    videos = ROWS[run.name].videos
    for kind, each in sorted(told.items()):
        if not each.exact:
            continue
        seconds = sorted(told for told, _ in each.exact)
        cells = (
            f"{videos.mean:g} s, {videos.spread:.0%}, {videos.progress}",
            run.load,
            kind,
            str(len(each.exact)),
            str(each.nothing),
            f"{median(seconds):.1f}",
            f"{each.error():.1f}",
            f"{each.share():.3f}",
            f"{each.shown():.3f}",
        )
        yield f"| {' | '.join(cells)} |", not LEAST <= each.share() <= MOST


HEADER = (
    "| video | load | job | times asked | nothing told | told, median | off by, median | "
    "done within | in whole seconds |"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.estimates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hours", type=float, default=100.0, help="of each row")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*NAMES], metavar="NAME",
                        help=f"of {', '.join(ROWS)}")  # fmt: skip
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=[*LOADS], metavar="LOAD",
                        help=f"of {', '.join(LOADS)}")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at once")
    asked = parser.parse_args()
    command = " ".join(["python -m bench.estimates", *sys.argv[1:]])
    print(f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, seed {asked.seed}\n")
    print(f"{HEADER}\n|{' --- |' * HEADER.count(' | ')} --- |", flush=True)
    runs: Sequence[Run] = [
        Run(name, load, asked.hours) for name in asked.rows for load in asked.loads
    ]
    failed = False
    with multiprocessing.get_context("spawn").Pool(asked.workers, maxtasksperchild=1) as pool:
        for run, told in pool.imap(partial(perform, seed=asked.seed), runs):
            for text, is_out in lines(run, told):
                print(text, flush=True)
                failed = failed or is_out
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
