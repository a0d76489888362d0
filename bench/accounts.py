"""Many accounts in one process for an hour: how near to their limits they come, and the CPU spent.

CPU seconds are those of the whole process, the provider's and the feeder's share with them, while
an hour goes by on virtual time. The log is written as the server writes it, to nowhere.
"""

import cProfile
import os
import pstats
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gateway import log
from gateway.config import Polling

from .figures import Figures, measure
from .provider import LATENCY, Limits, Videos
from .virtual import BEGINS, Folder, Front, World

SHARE = 0.97
CPU = 0.5
"""Aims at a thousand accounts: of the limit; CPU seconds a simulated second."""

INTERVAL = 30.0
WARM_UP = 0.5
"""Hours before anything is measured."""

ROOT = Path(__file__).parent.parent
STANDARD = sysconfig.get_path("stdlib")


def run_accounts(accounts: int, seed: int, hours: float, profile: bool) -> int:
    """Run and print; 1 when an aim is missed. `profile`: say where the time goes, which makes it
    slower.
    """
    profiler = cProfile.Profile(time.process_time)  # a busy machine must not show
    spent: list[float] = []

    def note() -> None:
        spent.append(time.process_time())
        if profile:
            (profiler.enable if len(spent) == 1 else profiler.disable)()

    figures = _run(accounts, seed, hours, note)
    cpu = (spent[1] - spent[0]) / (hours * 3600)
    calls = figures.videos * figures.calls_a_video
    broken = figures.refused + figures.late_breaches + figures.close_by_sending
    print(f"{accounts} accounts in one process, {hours:g} h after {WARM_UP:g} h:")
    print(f"- videos {figures.videos}, limit {figures.limit * hours:.0f}")
    print(f"- videos / limit {figures.share:.4f} (aim {SHARE})")
    print(f"- {figures.calls_a_video:.2f} calls a video; {broken} limits broken (aim 0)")
    print(f"- CPU seconds a simulated second {cpu:.4f} (aim {CPU} at 1,000)")
    print(
        f"- CPU a call upstream {1000 * (spent[1] - spent[0]) / max(calls, 1):.2f} ms, all in all"
    )
    if profile:
        tell_profile(pstats.Stats(profiler), calls)
    return 1 if figures.share < SHARE or cpu > CPU or broken else 0


def _run(accounts: int, seed: int, hours: float, note: Callable[[], None]) -> Figures:
    videos = Videos(240, 0.15, "exact")
    world = World(f"{seed} accounts", videos, LATENCY, Limits(), accounts)
    stderr = sys.stderr
    with Folder() as folder, Path(os.devnull).open("w") as nowhere:
        front = Front(world, folder, Polling(interval=INTERVAL), 0.0, Limits())
        sys.stderr = nowhere
        log.configure(front.keys.values())
        try:
            world.run(front.run(), [(WARM_UP, note), (WARM_UP + hours, note)])
        finally:
            sys.stderr = stderr
        front.check()
    since = BEGINS + WARM_UP * 3600
    between = (since, since + hours * 3600)
    return measure(world.providers, front.completed, between, INTERVAL, 0.0)


def tell_profile(stats: pstats.Stats, calls: float) -> None:
    """Own time by package, that of built-in functions by who called them; then the functions."""
    spent: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if file == "~":
            for (caller, _, _), (_, _, of_caller, _) in callers.items():
                spent[_package(caller)] += of_caller
        else:
            spent[_package(file)] += own
    total = sum(spent.values())
    print(f"\n| own time of | share | ms a call, under the profiler |\n| {'--- | ' * 3}")
    for package, seconds in spent.most_common(30):
        print(f"| {package} | {seconds / total:.1%} | {1000 * seconds / max(calls, 1):.3f} |")
    stats.sort_stats("tottime").print_stats(45)
    stats.sort_stats("cumulative").print_stats(90)


def _package(file: str) -> str:
    """A file's package: the rooms of the gateway one by one."""
    path = Path(file)
    if path.is_relative_to(ROOT):
        return ".".join(path.relative_to(ROOT).with_suffix("").parts[:3])
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    if path.is_relative_to(STANDARD):
        return path.relative_to(STANDARD).with_suffix("").parts[0]
    return file
