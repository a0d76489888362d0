"""OpenAI's SDKs for Python and Node, the newest and the first that knew videos, with nothing but
the base URL and the key set.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from acceptance.stack import Stack

from .conftest import See
from .oracles import sha256_of, stored_sha256, upstream_sha256
from .visits import OPENAI, Visit

VIDEO = {
    "id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at",
    "prompt", "size", "seconds", "remixed_from_video_id", "error",
}  # fmt: skip

WORDS = {"queued", "in_progress", "completed", "failed"}
"""OpenAI's vocabulary: an SDK's poll stops at any other word."""


@pytest.fixture(params=OPENAI, ids=str)
def visit(request: pytest.FixtureRequest, see: See) -> Visit:
    """What each SDK saw."""
    return see(request.param, "visit")


def raised(seen: dict[str, Any]) -> tuple[str, int, str, str | None]:
    """An error as the SDK gave it; it could read our id of the request and our message."""
    assert seen["request_id"].startswith("req_")
    assert seen["message"]
    return seen["raised"], seen["status"], seen["code"], seen["param"]


def test_a_prompt_alone_gets_the_defaults(visit: Visit) -> None:
    seen = visit.seen["create_default"]
    assert seen.keys() >= VIDEO
    assert (seen["object"], seen["status"], seen["progress"]) == ("video", "queued", 0)
    assert (seen["model"], seen["size"], seen["seconds"]) == ("sora-2", "1280x720", "10")
    sends = "multipart/form-data" if visit.sdk.newest else "application/json"
    assert visit.post("default").media_type == sends


def test_every_parameter_is_taken(visit: Visit) -> None:
    seen = visit.seen["create_all"]
    assert (seen["model"], seen["size"], seen["seconds"]) == ("sora-2", "720x1280", "15")


@pytest.mark.parametrize("form", ["path", "stream", "buffer"])
def test_a_picture_arrives_whole(visit: Visit, form: str, stack: Stack, picture: Path) -> None:
    assert visit.seen[f"create_{form}"]["status"] == "queued"
    sent = visit.post(form)
    assert sent.media_type == "multipart/form-data"
    assert sent.parts.keys() == {"prompt", "input_reference"}
    assert stored_sha256(stack, f"{form} {visit.tag}") == sha256_of(picture)


def test_a_stream_of_node_comes_chunked_and_untyped(visit: Visit) -> None:
    if visit.sdk.lock == "openai-node":
        for form in ("stream", "streaming"):
            assert visit.post(form).chunked
            assert visit.seen[f"create_{form}"]["status"] == "queued"
    untyped = "stream" if visit.sdk.language == "node" else "buffer"
    assert visit.post(untyped).parts["input_reference"] == "application/octet-stream"


def test_a_picture_comes_as_a_data_url(visit: Visit, stack: Stack, picture: Path) -> None:
    assert visit.seen["create_object"]["status"] == "queued"
    sent = visit.post("object")
    if visit.sdk.newest:
        assert "input_reference[image_url]" in sent.parts
    else:
        assert sent.media_type == "application/json"
    if visit.sdk.language == "python":  # its own check of files lets no object through
        assert visit.seen["create_object_itself"]["raised"] == "RuntimeError"
    assert stored_sha256(stack, f"object {visit.tag}") == sha256_of(picture)


def test_a_status_is_in_openai_s_words(visit: Visit) -> None:
    assert visit.seen["retrieve"]["status"] == "queued"
    statuses = visit.seen["statuses"]
    assert set(statuses) <= WORDS
    assert statuses[-1] == "completed"
    done = visit.seen["done"]
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert done["created_at"] <= done["completed_at"] < done["expires_at"]
    assert done["url"] == f"{visit.lines[0].url}/v1/videos/{done['id']}/content"


def test_a_video_is_downloaded_whole(visit: Visit, stack: Stack) -> None:
    assert visit.seen["content"] == upstream_sha256(stack, f"default {visit.tag}")


def test_create_poll_and_download_with_a_picture(visit: Visit, stack: Stack) -> None:
    assert visit.seen["with_picture"]["status"] == "completed"
    sha256 = upstream_sha256(stack, f"picture {visit.tag}")
    assert visit.seen["with_picture_content"] == sha256


def test_a_failed_video_says_why(visit: Visit) -> None:
    failed = visit.seen["failed"]
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "content_policy_violation"
    assert failed["error"]["message"]


def test_a_list_of_several_pages_ends(visit: Visit) -> None:
    made = visit.seen["made"]
    assert visit.seen["all_asc"] == made
    assert visit.seen["all_desc"] == made[::-1]
    assert visit.seen["all_default"] == made[::-1]
    pages = [each.target for each in visit.sent if "order=asc" in each.target and
             "limit=2" in each.target]  # fmt: skip
    assert len(pages) == -(-len(made) // 2) >= 4  # the SDK asks for no page past the last


def test_a_page_says_where_it_begins_and_ends(visit: Visit) -> None:
    page, made = visit.seen["page"], visit.seen["made"]
    assert page["object"] == "list"
    assert page["ids"] == made[:-3:-1]
    assert (page["has_more"], page["last_id"]) == (True, made[-2])
    assert page["first_id"] == made[-1]
    empty = visit.seen["page_empty"]
    assert (empty["ids"], empty["has_more"]) == ([], False)


def test_a_deleted_video_is_gone(visit: Visit) -> None:
    for gone in (visit.seen["delete"], *visit.seen["delete_waiting"]):
        assert (gone["object"], gone["deleted"]) == ("video.deleted", True)
    assert visit.seen["delete"]["id"] == visit.seen["done"]["id"]
    assert raised(visit.seen["deleted"])[:3] == ("NotFoundError", 404, "video_not_found")
    assert not set(visit.seen["left"]) & set(visit.seen["made"])
    assert len(visit.seen["left"]) == 2  # the one with a picture, and the failed one


def test_content_that_is_not_ready_is_an_error_at_once(visit: Visit) -> None:
    error = ("NotFoundError", 404, "content_not_ready", None)
    assert raised(visit.seen["not_ready"]) == error
    early = visit.seen["create_early"]["id"]
    assert len(visit.gets(f"/v1/videos/{early}/content")) == 1


def test_errors_are_read_as_openai_s(visit: Visit) -> None:
    seen = visit.seen
    for name in ("wrong_key", "wrong_key_create"):
        error = ("AuthenticationError", 401, "invalid_api_key", None)
        assert raised(seen[name]) == error
        assert seen[name]["type"] == "authentication_error"
    assert raised(seen["unknown_id"]) == ("NotFoundError", 404, "video_not_found", "id")
    for name, param in (
        ("bad_size", "size"),
        ("bad_model", "model"),
        ("bad_file", "input_reference"),
        ("no_prompt", "prompt"),
        ("far_image", "input_reference"),
        ("thumbnail", "variant"),
    ):
        assert raised(seen[name]) == ("BadRequestError", 400, "invalid_value", param)
        assert seen[name]["type"] == "invalid_request_error"


def test_what_the_upstream_lacks_is_said_so(visit: Visit) -> None:
    newer = ["edit", "extend", "character", "create_character"] if visit.sdk.newest else []
    for name in ("remix", *newer):
        assert raised(visit.seen[name]) == ("NotFoundError", 404, "not_offered", None)


def test_no_answer_made_an_sdk_repeat_itself(visit: Visit) -> None:
    assert {each.retry for each in visit.sent} == {0}


def test_the_header_sets_how_often_an_sdk_polls(see: See) -> None:
    visit = see(OPENAI[0], "interval")
    assert visit.seen["status"] == "completed"
    polls = visit.gets(f"/v1/videos/{visit.seen['id']}")
    assert all("x-stainless-poll-helper" in each.headers for each in polls)
    assert not any("x-stainless-custom-poll-interval" in each.headers for each in polls)
    waits = [later.at - each.at for each, later in pairwise(polls)]
    assert waits
    assert all(4.9 <= wait < 10 for wait in waits), waits  # the header says 5000 ms; else it is 1 s
