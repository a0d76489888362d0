"""The video object in every state, in the words of whoever asks."""

import httpx
import pytest
from conftest import MakeGateway
from stage import Caller, House

from gateway.job import State

from .bench import KEYS, bring, complete, error_of

SDK = {"x-stainless-lang": "js"}

STATES = [
    (State.SUBMITTING, {}, "submitted", "queued", 0),
    (State.RUNNING, {"upstream_id": "t"}, "submitted", "queued", 0),
    (State.RUNNING, {"in_progress": True, "progress": 40}, "in_progress", "in_progress", 40),
    (State.RUNNING, {"in_progress": True, "progress": 100}, "in_progress", "in_progress", 99),
    (State.FETCHING, {"in_progress": True, "progress": 100}, "in_progress", "in_progress", 99),
    (State.FAILED, {"error_code": "c", "error_message": "no"}, "failed", "failed", 0),
]


@pytest.mark.parametrize(("state", "changes", "word", "sdk_word", "progress"), STATES)
async def test_every_state(
    house: House, caller: Caller, state: State, changes, word: str, sdk_word: str, progress: int
) -> None:
    video = await caller.create("a cat")
    await bring(house, video, state, **changes)
    told = await caller.video(video)
    assert set(told) == KEYS
    assert (told["status"], told["progress"]) == (word, progress)
    assert told["error"] == ({"code": "c", "message": "no"} if state is State.FAILED else None)
    assert (told["completed_at"], told["expires_at"], told["url"]) == (None, None, None)
    answer = await caller.http.get(f"/v1/videos/{video}", headers=SDK)
    assert answer.json()["status"] == sdk_word


async def test_completed(house: House, caller: Caller) -> None:
    video = await caller.create("a cat")
    await complete(house, video)
    told = await caller.video(video)
    assert set(told) == KEYS
    assert (told["status"], told["progress"], told["error"]) == ("completed", 100, None)
    assert told["completed_at"] == 1_750_000_000
    assert told["expires_at"] == 1_750_000_000 + 30 * 86400
    assert isinstance(told["created_at"], int)
    assert isinstance(told["seconds"], str)
    assert told["remixed_from_video_id"] is None
    assert told["url"] == f"http://gateway.test/v1/videos/{video}/content"
    assert (await caller.http.get(told["url"])).status_code == 200


async def test_a_cancelled_one_is_gone(house: House, caller: Caller) -> None:
    from gateway.ledger.transitions import move

    video = await caller.create("a cat")
    await house.ledger.commit(move(house.job(video), State.CANCELLED, {}))
    error_of(await caller.http.get(f"/v1/videos/{video}"), 404)
    error_of(await caller.http.get(f"/v1/videos/{video}/content"), 404)


@pytest.mark.parametrize(
    ("vocabulary", "dialect", "bare", "sdk"),
    [
        ("auto", "apiyi", "submitted", "queued"),
        ("auto", "openai", "queued", "queued"),
        ("openai", "apiyi", "queued", "queued"),
        ("upstream", "apiyi", "submitted", "submitted"),
    ],
)
async def test_the_word_for_waiting(
    make_gateway: MakeGateway, make_caller, vocabulary: str, dialect: str, bare: str, sdk: str
) -> None:
    house = await make_gateway(
        "http://upstream.invalid",
        requests={"vocabulary": vocabulary},
        account={"dialect": dialect},
    )
    caller = make_caller(house)
    video = await caller.create()
    assert (await caller.video(video))["status"] == bare
    told = await caller.http.get(f"/v1/videos/{video}", headers=SDK)
    assert told.json()["status"] == sdk


class TestUrl:
    """It points at the gateway, however callers reach it; never at upstream."""

    @pytest.mark.parametrize(
        ("host", "base"),
        [
            ("videos.example", "http://videos.example"),
            ("videos.example:8443", "http://videos.example:8443"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("bad host", "http://gateway.test"),
            ("a/../b", "http://gateway.test"),
            ("user@evil.example", "http://gateway.test"),
            ("evil.example:99999999", "http://gateway.test"),
        ],
    )
    async def test_by_the_request(self, house: House, caller: Caller, host: str, base: str) -> None:
        video = await caller.create()
        await complete(house, video)
        told = await caller.http.get(f"/v1/videos/{video}", headers={"host": host})
        assert told.json()["url"] == f"{base}/v1/videos/{video}/content"

    async def test_by_the_settings(self, make_gateway: MakeGateway, make_caller) -> None:
        house = await make_gateway(
            "http://upstream.invalid", server={"public_url": "https://videos.example/api/"}
        )
        house.gateway.stop_calls()
        caller = make_caller(house)
        video = await caller.create()
        await complete(house, video)
        told = await caller.http.get(f"/v1/videos/{video}", headers={"host": "evil.example"})
        assert told.json()["url"] == f"https://videos.example/api/v1/videos/{video}/content"


class TestHealth:
    @pytest.fixture
    async def anybody(self, house: House):
        transport = httpx.ASGITransport(house.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
            yield http

    async def test_alive(self, anybody: httpx.AsyncClient) -> None:
        answer = await anybody.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    async def test_ready(self, anybody: httpx.AsyncClient) -> None:
        answer = await anybody.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["ready"] is True
        (account,) = answer.json()["accounts"]
        assert (account["name"], account["ok"], account["trouble"]) == ("default", True, None)

    async def test_metrics(self, house: House, caller: Caller, anybody: httpx.AsyncClient) -> None:
        await caller.create("a secret prompt")
        answer = await anybody.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert 'video_gateway_jobs{state="queued"} 1.0' in answer.text
        assert 'video_gateway_slots{account="default"} 5.0' in answer.text
        assert 'video_gateway_window_limit{account="default"} 10.0' in answer.text
        assert "a secret prompt" not in answer.text

    async def test_no_secret_anywhere(self, caller: Caller, anybody: httpx.AsyncClient) -> None:
        key = caller.http.headers["authorization"].removeprefix("Bearer ")
        video = await caller.create()
        paths = ["/healthz", "/readyz", "/metrics", f"/v1/videos/{video}", "/v1/nothing"]
        for path in paths:
            answer = await caller.http.get(path, params={"key": key})
            said = answer.text + repr(answer.headers)
            assert "sandbox-key" not in said
            assert key not in said
