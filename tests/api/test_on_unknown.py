"""`on_unknown`: what a caller wants when nobody can tell whether upstream accepted its video."""

import pytest
from conftest import MakeGateway
from stage import Caller, House

from .bench import error_of


@pytest.fixture
async def house(make_gateway: MakeGateway) -> House:
    """A gateway whose upstream is nowhere."""
    return await make_gateway("http://127.0.0.1:9")


@pytest.mark.parametrize(("value", "resends"), [(None, 0), ("fail", 0), ("resubmit", 1)])
@pytest.mark.parametrize("how", ["form", "json", "urlencoded"])
async def test_it_is_read_from_every_kind_of_body(
    house: House, caller: Caller, how: str, value: str | None, resends: int
) -> None:
    fields = {"prompt": "a cat"} | ({"on_unknown": value} if value else {})
    if how == "form":
        answer = await caller.post(**fields)
    elif how == "json":
        wish = {"prompt": "a cat", "on_unknown": value}
        answer = await caller.http.post("/v1/videos", json=wish)
    else:
        answer = await caller.http.post("/v1/videos", data=fields)
    assert answer.status_code == 200
    assert house.job(answer.json()["id"]).resends == resends


@pytest.mark.parametrize("value", ["", "retry", "RESUBMIT", 1, True, ["resubmit"]])
async def test_anything_else_is_refused_in_words_that_help(caller: Caller, value: object) -> None:
    wish = {"prompt": "a cat", "on_unknown": value}
    error = error_of(await caller.http.post("/v1/videos", json=wish), 400)
    assert error["param"] == "on_unknown"
    assert error["message"] == "on_unknown must be one of fail, resubmit."


async def test_it_is_part_of_what_makes_a_request_the_same(caller: Caller) -> None:
    async def ask(**fields: str) -> int:
        values = {"prompt": "a cat", **fields}
        header = {"idempotency-key": "k"}
        return (await caller.http.post("/v1/videos", data=values, headers=header)).status_code

    assert [await ask(), await ask(on_unknown="fail")] == [200, 200]
    assert await ask(on_unknown="resubmit") == 409
