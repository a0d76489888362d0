"""Runs of the simulation begin while the tests before these mostly wait."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .mutants import SEEDS

ROOT = Path(__file__).parent.parent.parent

Run = subprocess.CompletedProcess[str]
Simulated = Callable[[str], Run]
"""By a run's name, what it printed."""

_RUNS: dict[str, tuple[object, ...]] = {
    "once": ("--seeds", 3, "--hours", 9, "--first", 11),
    "again": ("--seeds", 3, "--hours", 9, "--first", 11),
    "as it is": ("--seeds", 30, "--hours", 90, "--first", 1001),
}

_cores = ThreadPoolExecutor(os.cpu_count())
_begun: dict[str, Future[Run]] = {}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with all that the tests will ask for."""
    if session.config.option.collectonly:
        return
    seeds = json.loads(SEEDS.read_text())
    looking = ("--seeds", 60, "--hours", 180, "--until-broken")
    for item in session.items:
        if not isinstance(item, pytest.Function) or "simulated" not in item.fixturenames:
            continue
        runs = _RUNS
        if "name" in item.fixturenames:
            name = item.callspec.params["name"]
            runs = {name: ("--mutant", name, "--first", seeds.get(name, 1), *looking)}
        for name, arguments in runs.items():
            if name not in _begun:
                _begun[name] = _cores.submit(_simulate, *arguments)


def pytest_unconfigure() -> None:
    """Leave out what nobody asked for."""
    _cores.shutdown(cancel_futures=True)


@pytest.fixture
def simulated() -> Simulated:
    return lambda name: _begun[name].result()


def _simulate(*arguments: object) -> Run:
    """On one core, and only while nothing else wants it."""
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.simulation", "--workers", "1"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
