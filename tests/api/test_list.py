"""A caller's own videos, a page at a time."""

from typing import Any

import pytest
from stage import Caller

from .bench import error_of


async def listed(caller: Caller, **query: Any) -> dict[str, Any]:
    answer = await caller.http.get("/v1/videos", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(page: dict[str, Any]) -> list[str]:
    return [video["id"] for video in page["data"]]


async def test_nobody_has_videos_at_first(caller: Caller) -> None:
    page = await listed(caller)
    assert page == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


async def test_the_newest_come_first_unless_asked_otherwise(caller: Caller) -> None:
    made = [await caller.create(f"cat {number}") for number in range(3)]
    assert ids(await listed(caller)) == made[::-1]
    page = await listed(caller, order="asc")
    assert ids(page) == made
    assert (page["first_id"], page["last_id"]) == (made[0], made[2])


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_pages_hold_every_video_once(caller: Caller, order: str, limit: int) -> None:
    made = [await caller.create(f"cat {number}") for number in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"order": order, "limit": limit}
    while True:
        page = await listed(caller, **query)
        assert len(page["data"]) <= limit
        seen += ids(page)
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert seen == (made if order == "asc" else made[::-1])


async def test_a_page_of_nothing_ends_the_list(caller: Caller) -> None:
    await caller.create()
    page = await listed(caller, limit=0)
    assert (page["data"], page["has_more"]) == ([], False)


async def test_others_videos_and_deleted_ones_are_not_listed(house, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    mine, deleted = await alice.create("mine"), await alice.create("deleted")
    his = await bob.create("his")
    await alice.http.delete(f"/v1/videos/{deleted}")
    assert ids(await listed(alice)) == [mine]
    answer = await alice.http.get("/v1/videos", params={"after": his})
    assert error_of(answer, 400)["param"] == "after"


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", "101"), ("limit", "-1"), ("limit", "many"), ("limit", "٣"), ("order", "up")],
)
async def test_what_is_not_allowed_is_named(caller: Caller, field: str, value: str) -> None:
    error = error_of(await caller.http.get("/v1/videos", params={field: value}), 400)
    assert error["param"] == field
    assert "must be" in error["message"]
