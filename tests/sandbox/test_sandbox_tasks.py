"""A task's life, and the words that spoil it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import faults
from gateway.sandbox.faults import FAILURES, Fault, delivery, ordered
from gateway.sandbox.tasks import Task


def task(prompt: str = "a cat", *, queue: float = 5.0, generation: float = 200.0) -> Task:
    return Task("video_1", prompt, "sora-2", "1280x720", "10", 1000.9, queue, generation)


def test_a_life() -> None:
    one = task()
    seen = [(one.status(at), one.progress(at)) for at in (1000.9, 1005.8, 1005.9, 1105.9, 1205.8)]
    assert seen == [
        ("waiting", 0),
        ("waiting", 0),
        ("in_progress", 0),
        ("in_progress", 50),
        ("in_progress", 99),
    ]
    assert (one.status(1205.9), one.progress(1205.9)) == ("completed", 100)


def test_the_video_object() -> None:
    url = "http://upstream.test/v1/videos/video_1/content"
    assert task().as_json(1000.9, "apiyi", url) == {
        "id": "video_1",
        "object": "video",
        "status": "submitted",
        "progress": 0,
        "prompt": "a cat",
        "model": "sora-2",
        "size": "1280x720",
        "seconds": "10",
        "created_at": 1000,
        "completed_at": None,
        "url": None,
        "error": None,
    }
    assert task().as_json(1000.9, "openai", url)["status"] == "queued"
    done = task().as_json(5000.0, "openai", url)
    assert (done["status"], done["completed_at"], done["url"]) == ("completed", 1205, url)


@given(
    prompt=st.sampled_from(["a cat", "sandbox:policy", "sandbox:hang"]),
    queue=st.floats(0, 100),
    generation=st.floats(0.1, 1000),
    times=st.lists(st.floats(0, 3000), min_size=1),
)
def test_status_and_progress_never_fall(
    prompt: str, queue: float, generation: float, times: list[float]
) -> None:
    one = task(prompt, queue=queue, generation=generation)
    order = ["waiting", "in_progress", "completed", "failed"]
    seen = [(order.index(one.status(at)), one.progress(at)) for at in sorted(times)]
    assert seen == sorted(seen)
    assert all(0 <= progress <= 100 for _, progress in seen)
    assert all((progress == 100) == (order[status] == "completed") for status, progress in seen)


@pytest.mark.parametrize("fault", FAILURES)
def test_a_failing_task_fails_half_way_and_says_why(fault: Fault) -> None:
    one = task(f"a cat, sandbox:{fault}")
    assert one.status(1105.8) == "in_progress"
    told = one.as_json(1105.9, "apiyi", "http://upstream.test")
    assert told["status"] == "failed"
    assert told["error"] == {"code": FAILURES[fault].code, "message": FAILURES[fault].message}
    assert (told["url"], told["completed_at"], told["progress"]) == (None, None, 50)


def test_a_hanging_task_never_ends() -> None:
    one = task("sandbox:hang")
    assert one.ends_at == math.inf
    assert (one.status(1e12), one.progress(1e12)) == ("in_progress", 99)


def test_words_are_found_whole_and_unknown_ones_do_nothing() -> None:
    assert ordered("a cat (sandbox:late), sandbox:cut.") == {Fault.LATE, Fault.CUT}
    assert ordered("sandbox:cute asandbox:cut sandbox: cut sandbox:nothing") == frozenset()


def test_download_faults_follow_each_other() -> None:
    both = ordered("sandbox:cut sandbox:late")
    assert [delivery(both, n) for n in range(5)] == ["missing", "missing", "cut", "whole", "whole"]


def test_every_word_is_documented() -> None:
    assert all(f"`sandbox:{fault}`" in str(faults.__doc__) for fault in Fault)
