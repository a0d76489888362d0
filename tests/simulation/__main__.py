"""`python -m tests.simulation --hours H --seeds N`: N seeds that share H simulated hours.

A seed runs in a process of its own, forked from one that has imported everything, and is the same
whenever it is run. Ends with status 1 when anything happened that must not.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets belongs to a seed
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], environ
        )
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--hours", type=float, default=30.0, help="simulated hours, together")
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--mutant", default="", help="a broken version, by its name")
    parser.add_argument("--until-broken", action="store_true", help="end with the first violation")
    parser.add_argument("--log", action="store_true", help="say what happens")
    asked = parser.parse_args()
    sys.path.insert(0, str(TESTS))  # the other tests' stage

    from .mutants import MUTANTS, put_in_place

    if asked.mutant:
        put_in_place(MUTANTS[asked.mutant])
    from .faults import OF
    from .operator import ACTS
    from .run import Runner

    began = time.monotonic()
    totals: Counter[str] = Counter()
    kinds = {**OF, "operator": ACTS}
    faults: Counter[str] = Counter({f"{kind} {name}": 0 for kind in kinds for name in kinds[kind]})
    hours, broken, seeds_run = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), asked.hours / asked.seeds, asked.log)
        seeds = range(asked.first, asked.first + asked.seeds)
        for verdict in runner.run(seeds, asked.workers):
            seeds_run += 1
            hours += verdict.hours
            totals.update(verdict.figures)
            faults.update(verdict.faults)
            told = ", ".join(f"{int(value)} {name}" for name, value in verdict.figures.items())
            print(
                f"seed {verdict.seed}: {verdict.hours:.1f} h, {told}, {verdict.digest}", flush=True
            )
            for line in verdict.broken:
                broken += 1
                print(f"  BROKEN {line}", flush=True)
            if broken and asked.until_broken:
                break
    told = ", ".join(f"{int(value)} {name}" for name, value in totals.items())
    print(f"{seeds_run} seeds, {hours:.0f} simulated hours, {told}")
    print("faults met:", ", ".join(f"{name}: {times}" for name, times in sorted(faults.items())))
    print(f"{broken} violations, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
