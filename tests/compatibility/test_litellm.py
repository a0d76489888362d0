"""litellm's own client, with `api_base` and `api_key` set. It speaks HTTP by itself, without an
OpenAI SDK, and so gets the upstream's own words.
"""

from pathlib import Path

import pytest
from acceptance.stack import Stack

from .conftest import See
from .oracles import sha256_of, upstream_sha256
from .visits import LITELLM, Visit


@pytest.fixture
def visit(see: See) -> Visit:
    return see(LITELLM, "visit")


def test_litellm_creates_videos(visit: Visit) -> None:
    first, full = visit.seen["create_default"], visit.seen["create_all"]
    assert (first["object"], first["status"], first["seconds"]) == ("video", "submitted", "10")
    assert (full["size"], full["seconds"]) == ("720x1280", "15")
    again = visit.seen["asynchronous"]
    assert again["created"]["object"] == again["status"]["object"] == "video"
    posts = [each for each in visit.sent if each.method == "POST"]
    assert all(each.media_type == "multipart/form-data" for each in posts[:4])


def test_litellm_sends_a_picture(visit: Visit, stack: Stack, picture: Path) -> None:
    assert visit.seen["create_stream"]["object"] == visit.seen["create_buffer"]["object"] == "video"
    stored = stack.ledger("SELECT input_sha256 FROM jobs WHERE prompt IN ('stream', 'buffer')")
    assert stored == [(sha256_of(picture),)] * 2


def test_litellm_polls_and_downloads(visit: Visit, stack: Stack) -> None:
    for name, prompt in (("first", "default"), ("pictured", "stream")):
        seen = visit.seen[name]
        assert set(seen["statuses"]) <= {"submitted", "in_progress", "completed"}
        assert (seen["done"]["status"], seen["done"]["progress"]) == ("completed", 100)
        assert seen["content"] == upstream_sha256(stack, prompt)


def test_litellm_sees_why_a_video_failed(visit: Visit) -> None:
    failed = visit.seen["failed"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_policy_violation")


def test_litellm_lists_page_after_page(visit: Visit) -> None:
    prompts = ["default", "all", "stream", "buffer", "asynchronous", "early"]
    assert visit.seen["asc"] == prompts
    assert visit.seen["desc"] == prompts[::-1]


def test_litellm_reads_our_errors(visit: Visit) -> None:
    for name, kind, status, code in (
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
        ("unknown_id", "BadRequestError", 404, "video_not_found"),  # the name is litellm's
        ("bad_size", "BadRequestError", 400, "invalid_value"),
        ("not_ready", "BadRequestError", 404, "content_not_ready"),
        ("remix", "BadRequestError", 404, "not_offered"),
    ):
        seen = visit.seen[name]
        assert (seen["raised"], seen["status"]) == (kind, status)
        assert f'"code":"{code}"' in seen["message"]
    contents = [each for each in visit.sent if each.target.endswith("/content")]
    assert len(contents) == 3  # one not ready, two whole: none was asked for again
