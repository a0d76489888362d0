"""The simulation itself: a seed is a run repeated, nothing breaks, what is broken is found out.

python -m tests.simulation --hours 3000 --seeds 1000
"""

import re

import pytest

from .conftest import Simulated
from .mutants import MUTANTS


def test_a_seed_is_a_run_repeated_bit_for_bit(simulated: Simulated) -> None:
    runs = [simulated(name).stdout for name in ("once", "again")]
    digests = [sorted(re.findall(r"^(seed \d+): .*, (\w{16})$", run, re.M)) for run in runs]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


def test_nothing_that_must_hold_is_broken(simulated: Simulated) -> None:
    """With all faults, crashes and power cuts; other seeds than those that found the mutants."""
    run = simulated("as it is")
    assert run.returncode == 0, run.stdout + run.stderr
    reached = dict(re.findall(r"(\w[\w ]*): (\d+)", run.stdout.split("faults met:")[1]))
    unmet = [name for name, times in reached.items() if int(times) == 0]
    assert len(unmet) < len(reached) / 10  # a thousand seeds meet them all


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_version_is_found_out(simulated: Simulated, name: str) -> None:
    """By the seed that is known to find it, or by one of those after it."""
    run = simulated(name)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "  BROKEN " in run.stdout
