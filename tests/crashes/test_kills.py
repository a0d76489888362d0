"""A real gateway at work, killed once at each of its failpoints: nothing lost, nothing paid twice.

`python -m tests.crashes` does the same for as long as one likes.
"""

import ast
from pathlib import Path

import pytest

import gateway
from gateway.failpoint import POINTS

from .campaign import Campaign


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_every_point_of_a_job_s_life_is_reached_and_survived(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "stack", seed=1)
    await campaign.visit(list(POINTS))
    assert [point for point in POINTS if not campaign.hits[point]] == []
    assert campaign.problems == []
    assert campaign.figures["submits_by_prompt"]


def test_no_point_is_reached_that_has_no_name() -> None:
    """`reach` itself does not look: it must cost nothing."""
    house = Path(gateway.__file__).parent
    calls = [
        node.args[0]
        for path in house.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach"
    ]
    plain = {call.value for call in calls if isinstance(call, ast.Constant)}
    assert plain
    assert plain < POINTS.keys()
    kinds = {
        point for point in POINTS if point.partition(".")[2] in ("reserved", "answered", "settled")
    }
    assert POINTS.keys() - plain == {
        p for p in kinds if p.partition(".")[0] in ("submit", "poll", "download")
    }
