"""`python -m tests.simulation.hunt [NAME ...]`: find a seed for each broken version, or for these.

To be run when seeds mean something else than before, since the gateway or the simulation draws
other random numbers. The seed that is known is tried first. What is found is written to
`seeds.json`, at once; ends with status 1 when a broken version was not found out.
"""

import json
import re
import subprocess
import sys
import time

from .mutants import MUTANTS, SEEDS

HOURS = 3
"""Of each seed."""

MOST = 100
"""Seeds that are tried."""


def main() -> int:
    wanted = sys.argv[1:] or [*MUTANTS]
    if unknown := {*wanted} - {*MUTANTS}:
        sys.exit(f"there are {', '.join(MUTANTS)}; not {', '.join(unknown)}")
    missed = []
    for name in wanted:
        began = time.monotonic()
        known = json.loads(SEEDS.read_text()).get(name, 1)
        seed = _look(name, known, 1) or _look(name, 1, MOST)
        took = f"{time.monotonic() - began:.0f} s"
        if seed is None:
            missed.append(name)
        else:
            seeds = json.loads(SEEDS.read_text()) | {name: seed}
            kept = {each: seeds[each] for each in MUTANTS if each in seeds}
            SEEDS.write_text(json.dumps(kept, indent=2) + "\n")
        print(f"{name}: {f'seed {seed}' if seed else 'NOT FOUND'}, {took}", flush=True)
    return 1 if missed else 0


def _look(name: str, first: int, seeds: int) -> int | None:
    """The first of so many seeds that finds a broken version."""
    command = [sys.executable, "-m", "tests.simulation", "--mutant", name, "--until-broken"]
    command += ["--first", str(first), "--seeds", str(seeds), "--hours", str(HOURS * seeds)]
    run = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True)
    found = re.search(r"^seed (\d+): .*\n  BROKEN ", run.stdout, re.M)
    if found is None and run.returncode != 0:
        sys.exit(f"{name}: {run.stdout}{run.stderr}")
    return int(found[1]) if found else None


if __name__ == "__main__":
    sys.exit(main())
