"""Bounds on callers: refused at once, in the envelope, with a Retry-After that holds."""

import pytest
from conftest import MakeGateway
from stage import House

from gateway.keys import new_key

from .bench import error_of


@pytest.fixture
async def house(make_gateway: MakeGateway, upstream) -> House:
    limits = {"requests": 5, "queued": 2, "wrong_keys": 3}
    house = await make_gateway(upstream.url, limits=limits)
    house.gateway.stop_calls()
    return house


def refused(answer, code: str) -> None:
    assert error_of(answer, 429)["code"] == code
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_requests_a_minute_are_counted_by_caller(house: House, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    answers = [await alice.http.get("/v1/videos") for _ in range(6)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    refused(answers[5], "rate_limit_exceeded")
    assert (await bob.http.get("/v1/videos")).status_code == 200


async def test_a_second_key_of_a_caller_gives_no_more(house: House, make_caller) -> None:
    one, other = make_caller(house, "alice"), make_caller(house, "alice")
    for _ in range(5):
        await one.http.get("/v1/videos")
    refused(await other.http.get("/v1/videos"), "rate_limit_exceeded")


async def test_videos_that_wait_are_bounded(house: House, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    first = await alice.create("one")
    await alice.create("two")
    refused(await alice.post("three"), "queue_full")
    await bob.create("one")
    await alice.http.delete(f"/v1/videos/{first}")
    assert (await alice.post("three")).status_code == 200


async def test_guessing_keys_is_slowed_and_a_right_key_is_not(house: House, make_caller) -> None:
    alice = make_caller(house, "alice")
    guesses = [{"authorization": new_key()} for _ in range(5)]
    answers = [await alice.http.get("/v1/videos", headers=guess) for guess in guesses]
    for answer in answers[:3]:
        assert error_of(answer, 401)["code"] == "invalid_api_key"
    for answer in answers[3:]:
        refused(answer, "too_many_wrong_keys")
    assert (await alice.http.get("/v1/videos")).status_code == 200
