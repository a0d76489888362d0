"""The simulation itself: a seed is a run repeated, nothing breaks, what is broken is found out.

python -m tests.simulation --hours 3000 --seeds 1000
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .mutants import MUTANTS, SEEDS

ROOT = Path(__file__).parent.parent.parent

Run = subprocess.CompletedProcess[str]


def simulate(first: int, seeds: int, *options: str) -> Run:
    """Three hours of each seed, on one core that others may want more."""
    command = ["nice", sys.executable, "-m", "tests.simulation", "--workers", "1"]
    command += ["--first", str(first), "--seeds", str(seeds), "--hours", str(3 * seeds)]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)


def test_a_seed_is_a_run_repeated_bit_for_bit() -> None:
    runs = [simulate(11, 3).stdout for _ in range(2)]
    digests = [sorted(re.findall(r"^(seed \d+): .*, (\w{16})$", run, re.M)) for run in runs]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_nothing_that_must_hold_is_broken() -> None:
    """With all faults, crashes and power cuts; other seeds than those that found the mutants."""
    run = simulate(1001, 30)
    assert run.returncode == 0, run.stdout + run.stderr
    reached = dict(re.findall(r"(\w[\w ]*): (\d+)", run.stdout.split("faults met:")[1]))
    unmet = [name for name, times in reached.items() if int(times) == 0]
    assert len(unmet) < len(reached) / 10  # a thousand seeds meet them all


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_version_is_found_out(name: str) -> None:
    """By the seed that is known to find it, or by one of those after it."""
    known = json.loads(SEEDS.read_text()).get(name, 1)
    run = simulate(known, 60, "--mutant", name, "--until-broken")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "  BROKEN " in run.stdout
