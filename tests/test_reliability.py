"""The table of failures leaves no case out; the tests, failpoints and faults in it are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from simulation.faults import EPISODES, OF
from simulation.operator import ACTS

from gateway.failpoint import POINTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
TABLE = PAGE.partition("## Every failure, and the test that shows it\n")[2]
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if re.match(r"\| \w", line)]

KILLS = "tests/crashes/test_kills.py::test_every_point_of_a_job_s_life_is_reached_and_survived"


def named(cell: str, kind: str) -> list[str]:
    """The names of one kind in the last cell of a row: `test`, `kills` or `simulation`."""
    names: list[str] = []
    for part in cell.split("<br>"):
        before, _, after = part.partition(": ")
        if kind == (before if after else "test"):
            names += re.findall(r"`([^`]+)`", after or part)
    return names


@cache
def names_in(path: Path) -> frozenset[str]:
    """The tests of a module, as pytest names them."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{before}{each.name}" for each in inside if isinstance(each, functions)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


def fates() -> set[str]:
    """What befalls the simulated machine."""
    tree = ast.parse((ROOT / "tests" / "simulation" / "world.py").read_text())
    return {
        case.pattern.value.value
        for match in ast.walk(tree)
        if isinstance(match, ast.Match)
        for case in match.cases
        if isinstance(case.pattern, ast.MatchValue) and isinstance(case.pattern.value, ast.Constant)
    }


def test_every_case_stands_in_the_table() -> None:
    assert all(len(row) == 4 and all(row) for row in ROWS)
    cases = [row[0] for row in ROWS]
    assert list(dict.fromkeys(cases)) == [*map(str, range(1, 29)), "never"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_what_shows_it_is_there(row: list[str]) -> None:
    tests = named(row[3], "test")
    assert tests
    for test in tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), test
        assert name in names_in(ROOT / path), test
    assert [point for point in named(row[3], "kills") if point not in POINTS] == []
    faults = {fault for kind in OF.values() for fault in kind} | {*EPISODES, *ACTS} | fates()
    assert [fault for fault in named(row[3], "simulation") if fault not in faults] == []
    shown = re.findall(r"`([^`]+)`", row[3])
    assert len(shown) == sum(len(named(row[3], kind)) for kind in ("test", "kills", "simulation"))


def test_what_kills_at_each_point_is_there() -> None:
    path, _, name = KILLS.partition("::")
    assert f"`{KILLS}`" in PAGE
    assert name in names_in(ROOT / path)
