"""Forty jobs of four callers at once, under the real limits, on upstreams that count either way."""

import asyncio

import pytest

from .callers import metric
from .conftest import Join, Launch

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]


@pytest.mark.parametrize(
    ("count", "guard"),
    [
        ("arrival", 0.05),
        ("end", 0.4),  # how late a busy machine may let the sandbox note that an answer has ended
    ],
)
async def test_all_forty_are_delivered_and_no_limit_is_ever_broken(
    launch: Launch, join: Join, count: str, guard: float
) -> None:
    stack = await launch(count=count, guard=guard)
    callers = [join(stack, f"caller-{number}") for number in range(4)]
    wishes = [(one, f"{one.name} video {n}") for one in callers for n in range(10)]

    digests = await asyncio.gather(*(one.make(prompt) for one, prompt in wishes))

    record = stack.record()
    assert {status for one in callers for status in one.statuses} == {200}
    theirs = {video["prompt"]: video["sha256"] for video in record["videos"].values()}
    assert {prompt: digest for (_, prompt), digest in zip(wishes, digests, strict=True)} == theirs
    figures = record["figures"]
    assert figures["refused"] == 0
    assert figures["most_calls_in_window_with_refused"][count] == 10  # the budget is used, too
    assert figures["most_tasks_at_once"] == 5
    assert figures["violations"] == 0
    assert metric(stack, "video_gateway_upstream_rate_limited_total") == 0
