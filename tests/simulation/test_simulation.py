"""The simulation itself: a seed is a run repeated, nothing breaks, what is broken is found out.

python -m tests.simulation --hours 3000 --seeds 1000
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .mutants import MUTANTS, SEEDS

ROOT = Path(__file__).parent.parent.parent


def simulate(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a run of the command prints."""
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True)


def test_a_seed_is_a_run_repeated_bit_for_bit() -> None:
    runs = [simulate("--seeds", 3, "--hours", 9, "--first", 11).stdout for _ in range(2)]
    digests = [sorted(re.findall(r"^(seed \d+): .*, (\w{16})$", run, re.M)) for run in runs]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_nothing_that_must_hold_is_broken() -> None:
    """With all faults, crashes and power cuts; other seeds than those that found the mutants."""
    run = simulate("--seeds", 30, "--hours", 90, "--first", 1001)
    assert run.returncode == 0, run.stdout + run.stderr
    reached = dict(re.findall(r"(\w[\w ]*): (\d+)", run.stdout.split("faults met:")[1]))
    unmet = [name for name, times in reached.items() if int(times) == 0]
    assert len(unmet) < len(reached) / 10  # a thousand seeds meet them all


@pytest.fixture(scope="module")
def broken() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """A run of each broken version, a core each."""
    seeds = json.loads(SEEDS.read_text())
    looking = ("--seeds", 60, "--hours", 180, "--until-broken", "--workers", 1)
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        yield {
            name: cores.submit(simulate, "--mutant", name, "--first", seeds.get(name, 1), *looking)
            for name in MUTANTS
        }
        cores.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_version_is_found_out(
    broken: dict[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    """By the seed that is known to find it, or by one of those after it."""
    run = broken[name].result()
    assert run.returncode == 1, run.stdout + run.stderr
    assert "  BROKEN " in run.stdout
