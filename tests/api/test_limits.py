"""Bounds on callers: refused at once, in the envelope, with a Retry-After that holds."""

import asyncio

import httpx
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


KEY = {"idempotency-key": "the-same"}


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


async def test_no_crowd_of_posts_gets_past_that_bound(make_gateway, upstream, make_caller) -> None:
    """Most of them come before the first one is committed; the same request again is no new one."""
    house = await make_gateway(upstream.url, limits={"queued": 12})
    house.gateway.stop_calls()
    alice = make_caller(house)
    first = await alice.http.post("/v1/videos", json={"prompt": "a"}, headers=KEY)
    posts = [alice.post(f"cat {number}") for number in range(60)]
    again = alice.http.post("/v1/videos", json={"prompt": "a"}, headers=KEY)
    *answers, repeated = await asyncio.gather(*posts, again)
    assert sum(answer.status_code == 200 for answer in answers) == 11
    for answer in answers:
        if answer.status_code != 200:
            refused(answer, "queue_full")
            assert answer.json()["error"]["message"].startswith("You have 12 videos waiting")
    assert repeated.json()["id"] == first.json()["id"]
    assert house.ledger.live.queued[house.job(first.json()["id"]).caller] == 12


async def test_guessing_keys_is_slowed_and_a_right_key_is_not(house: House, make_caller) -> None:
    alice = make_caller(house, "alice")
    guesses = [{"authorization": new_key()} for _ in range(5)]
    answers = [await alice.http.get("/v1/videos", headers=guess) for guess in guesses]
    for answer in answers[:3]:
        assert error_of(answer, 401)["code"] == "invalid_api_key"
    for answer in answers[3:]:
        refused(answer, "too_many_wrong_keys")
    assert (await alice.http.get("/v1/videos")).status_code == 200


async def guess(house: House, address: str) -> int:
    """What one wrong key from this address is answered with."""
    transport = httpx.ASGITransport(house.app, client=(address, 1234))
    wrong = {"authorization": new_key()}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
        return (await http.get("/v1/videos", headers=wrong)).status_code


async def test_whoever_has_many_addresses_of_a_network_guesses_no_more(house: House) -> None:
    theirs = [f"2001:db8:7:1:{number:x}::{number:x}" for number in range(1, 6)]
    assert [await guess(house, each) for each in theirs] == [401, 401, 401, 429, 429]
    assert await guess(house, "2001:db8:7:2::1") == 401  # the network beside it is another's
    assert await guess(house, "192.0.2.1") == 401


async def test_an_ipv4_address_is_one_however_it_is_written(house: House) -> None:
    same = ["192.0.2.1", "::ffff:192.0.2.1"] * 2
    assert [await guess(house, each) for each in same] == [401, 401, 401, 429]
    assert await guess(house, "::ffff:192.0.2.2") == 401
    assert await guess(house, "192.0.2.3") == 401


@pytest.mark.parametrize("address", ["", "testclient", "fe80::1%eth0"])
async def test_no_address_is_too_odd(house: House, address: str) -> None:
    assert [await guess(house, address) for _ in range(4)] == [401, 401, 401, 429]
