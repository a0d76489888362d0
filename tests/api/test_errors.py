"""Every error has OpenAI's shape, the framework's own too: SDKs read no other."""

import httpx
import pytest
from stage import Caller, House

from .bench import error_of


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/models", 404),
        ("POST", "/v1/chat/completions", 404),
        ("GET", "/V1/VIDEOS/x", 404),
        ("GET", "//v1/videos/x", 404),
        ("DELETE", "/v1/videos", 405),
        ("PUT", "/v1/videos", 405),
        ("PATCH", "/v1/videos/video_1", 405),
        ("POST", "/v1/videos/video_1/content", 405),
        ("POST", "/healthz", 405),
        ("BREW", "/v1/videos", 405),
        ("POST", "/v1/videos/edits", 404),
        ("POST", "/v1/videos/extensions", 404),
        ("POST", "/v1/videos/characters", 404),
        ("GET", "/v1/videos/characters", 404),
        ("GET", "/v1/videos/characters/char_1", 404),
        ("POST", "/v1/videos/video_1/remix", 404),
    ],
)
async def test_what_is_not_there(caller: Caller, method: str, path: str, status: int) -> None:
    error_of(await caller.http.request(method, path), status)


@pytest.mark.parametrize("path", ["characters", "edits", "extensions", "x/remix"])
async def test_what_upstream_does_not_offer_is_said_so(caller: Caller, path: str) -> None:
    answer = await caller.http.post(f"/v1/videos/{path}", json={"prompt": "a cat"})
    assert error_of(answer, 404)["code"] == "not_offered"
    assert answer.headers["x-should-retry"] == "false"


async def test_405_says_what_is_allowed(caller: Caller) -> None:
    for path, methods in {
        "/v1/videos": {"GET", "HEAD", "POST"},
        "/v1/videos/video_1": {"GET", "HEAD", "DELETE"},
    }.items():
        answer = await caller.http.put(path)
        error_of(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == methods


@pytest.mark.parametrize(
    ("count", "length", "status"), [(85, 10, 404), (150, 1, 431), (1, 20_000, 431), (20, 900, 431)]
)
async def test_too_many_headers(caller: Caller, count: int, length: int, status: int) -> None:
    headers = {f"x-{number}": "v" * length for number in range(count)}
    error_of(await caller.http.get("/v1/videos/video_1", headers=headers), status)


async def test_two_ways_to_tell_a_bodys_length(caller: Caller) -> None:
    headers = {"content-length": "5", "transfer-encoding": "chunked"}
    answer = await caller.http.post("/v1/videos", content=b"a cat", headers=headers)
    assert error_of(answer, 400)["code"] == "invalid_headers"


@pytest.mark.parametrize("length", ["20000000", "9" * 5000])
async def test_a_body_that_is_announced_too_large(caller: Caller, length: str) -> None:
    headers = {"content-length": length, "content-type": "application/json"}
    answer = await caller.http.post("/v1/videos", content=b"{}", headers=headers)
    assert error_of(answer, 413)["code"] == "body_too_large"


class TestRequestId:
    async def test_every_answer_has_one_of_its_own(self, caller: Caller) -> None:
        ids = {(await caller.http.get("/healthz")).headers["x-request-id"] for _ in range(5)}
        assert len(ids) == 5

    async def test_the_callers_own_is_kept(self, caller: Caller) -> None:
        answer = await caller.http.get("/nothing", headers={"x-request-id": "mine-1_A"})
        assert answer.headers.get_list("x-request-id") == ["mine-1_A"]

    @pytest.mark.parametrize("odd", ["a b", "x" * 65, "", "a;b", "<script>"])
    async def test_an_odd_one_is_not(self, caller: Caller, odd: str) -> None:
        answer = await caller.http.get("/nothing", headers={"x-request-id": odd})
        assert answer.headers["x-request-id"].startswith("req_")


async def test_a_fault_of_our_own_tells_nothing_of_the_inside(house: House, caller: Caller) -> None:
    video = await caller.create("a cat")
    house.ledger._reader.close()
    transport = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway.test", headers=caller.http.headers
    ) as client:
        answer = await client.get(f"/v1/videos/{video}")
    error = error_of(answer, 500)
    assert error["code"] == "internal_error"
    assert "sqlite" not in answer.text.lower()
