"""A POST whose answer is lost on the way: the SDK sends it again by itself, with no key that would
say so, and the video must not be made, or paid for, twice.
"""

import pytest
from acceptance.stack import Stack

from .conftest import See
from .line import Loss
from .oracles import submits
from .visits import NODE, OPENAI, Sdk

LOSSES: tuple[tuple[Loss, int], ...] = (
    ("closed", 1),
    ("closed", 2),
    ("502", 1),
    ("silence", 1),
)
"""How answers are lost on each line, and how many in a row. Over the first, a stream is sent."""

WHOLE_THEN_LOST: tuple[tuple[Loss, int], ...] = (("closed", 0), ("closed", 2))


@pytest.mark.parametrize("sdk", OPENAI, ids=str)
def test_a_retried_post_makes_one_job_and_one_submit(see: See, sdk: Sdk, stack: Stack) -> None:
    visit = see(sdk, "repeat", LOSSES)
    created = visit.seen["created"]
    sent = submits(stack)
    for line, (prompt, job), listed in zip(
        visit.lines, created.items(), visit.seen["listed"][::-1], strict=True
    ):
        posts = [each for each in line.sent() if each.method == "POST"]
        assert line.lost == line.losses
        assert [each.retry for each in posts] == list(range(len(posts)))
        assert not any("idempotency-key" in each.headers for each in posts)
        assert sent[prompt] == 1
        if line is visit.lines[0] and sdk == NODE:
            assert (
                job["raised"] == "APIConnectionError"
            )  # a stream that was read is gone: it gives up
            assert len(posts) == 1
        else:
            assert job == listed
            assert len(posts) > line.losses
            assert len({each.headers["content-type"] for each in posts}) == len(posts)  # boundaries


@pytest.mark.parametrize("sdk", OPENAI, ids=str)
def test_the_same_video_wanted_twice_is_made_twice(see: See, sdk: Sdk, stack: Stack) -> None:
    visit = see(sdk, "twins", WHOLE_THEN_LOST)
    created = visit.seen["created"]
    ids = [each for pair in created.values() for each in pair]
    assert len(set(ids)) == 4
    assert sorted(visit.seen["listed"]) == sorted(ids)
    sent = submits(stack)
    assert [sent[prompt] for prompt in created] == [2, 2]
    assert visit.lines[1].lost == 2
