"""The same request again is the same job; another request is another one."""

from typing import Any

import httpx
import pytest
from stage import Caller, House, picture

from .bench import error_of


async def post(caller: Caller, prompt: str = "a cat", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller.http.post("/v1/videos", json={"prompt": prompt}, headers=named)


async def made(caller: Caller, prompt: str = "a cat", **headers: str) -> str:
    answer = await post(caller, prompt, **headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def retried(caller: Caller, count: int, prompt: str = "a cat") -> str:
    return await made(caller, prompt, x_stainless_retry_count=str(count))


async def test_an_idempotency_key_makes_one_job(caller: Caller, house: House) -> None:
    first = await made(caller, idempotency_key="k1")
    assert await made(caller, idempotency_key="k1") == first
    assert await made(caller, idempotency_key="k2") != first
    assert sum(house.ledger.live.counts.values()) == 2


async def test_the_same_key_with_another_body_is_refused_for_good(caller: Caller) -> None:
    await made(caller, "a cat", idempotency_key="k1")
    answer = await post(caller, "a dog", idempotency_key="k1")
    assert error_of(answer, 409)["param"] == "Idempotency-Key"
    assert answer.headers["x-should-retry"] == "false"


async def test_the_same_key_of_another_caller_is_another(house: House, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    assert await made(alice, idempotency_key="k") != await made(bob, idempotency_key="k")


async def test_the_image_is_part_of_the_request(caller: Caller) -> None:
    def parts(image: bytes) -> dict[str, Any]:
        return {"prompt": (None, "a cat"), "input_reference": ("a.png", image)}

    headers = {"idempotency-key": "k"}
    one = await caller.http.post("/v1/videos", files=parts(picture("PNG")), headers=headers)
    same = await caller.http.post("/v1/videos", files=parts(picture("PNG")), headers=headers)
    other = await caller.http.post("/v1/videos", files=parts(picture("JPEG")), headers=headers)
    assert one.json()["id"] == same.json()["id"]
    error_of(other, 409)


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "two words"])
async def test_a_key_that_is_none_is_refused(caller: Caller, key: str) -> None:
    answer = await post(caller, idempotency_key=key)
    assert error_of(answer, 400)["param"] == "Idempotency-Key"


async def test_the_key_itself_is_kept_nowhere(caller: Caller, house: House) -> None:
    await made(caller, idempotency_key="a-secret-of-the-callers")
    for path in house.folder.glob("ledger*"):
        assert b"a-secret-of-the-callers" not in path.read_bytes()


async def test_a_retry_of_an_sdk_is_the_same_job(caller: Caller) -> None:
    first = await retried(caller, 0)
    assert await retried(caller, 1) == first
    assert await retried(caller, 2) == first


async def test_a_retry_whose_first_try_never_came_is_a_new_job(caller: Caller) -> None:
    first = await retried(caller, 1)
    assert await retried(caller, 0) != first


async def test_two_equal_jobs_each_retried_stay_two(caller: Caller) -> None:
    both = {await retried(caller, 0), await retried(caller, 0)}
    assert len(both) == 2
    assert {await retried(caller, 1), await retried(caller, 1)} == both
    assert {await retried(caller, 2), await retried(caller, 2)} == both


async def test_a_retry_of_another_request_or_caller_is_new(house: House, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    first = await retried(alice, 0)
    assert await retried(alice, 1, "a dog") != first
    assert await retried(bob, 1) != first


async def test_an_old_request_is_not_repeated(caller: Caller, house: House) -> None:
    first = await retried(caller, 0)
    offset = house.gateway.clock
    offset._offset += 601
    assert await retried(caller, 1) != first
