"""Deleting a video: what its caller sees, and what goes on upstream."""

from stage import Caller, House, until

from gateway.job import State
from gateway.ledger.transitions import move
from gateway.sandbox.record import submits_by_prompt

from .bench import bring, complete, error_of


async def delete(caller: Caller, video: str) -> None:
    answer = await caller.http.delete(f"/v1/videos/{video}")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": video, "object": "video.deleted", "deleted": True}


async def assert_gone(caller: Caller, video: str) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = await caller.http.request(method, f"/v1/videos/{video}{path}")
        assert error_of(answer, 404)["code"] == "video_not_found"


async def test_a_queued_video_is_cancelled(caller: Caller, house: House) -> None:
    video, next_one = await caller.create("first"), await caller.create("second")
    await delete(caller, video)
    await assert_gone(caller, video)
    assert house.job(video).state is State.CANCELLED
    assert house.ledger.live.line.first().id == next_one
    assert house.ledger.live.counts[State.QUEUED] == 1


async def test_a_running_video_keeps_its_slot_and_is_not_downloaded(
    caller: Caller, house: House
) -> None:
    video = await caller.create()
    job = await bring(house, video, State.RUNNING, upstream_id="theirs")
    book = house.ledger.live.books["default"]
    await delete(caller, video)
    await assert_gone(caller, video)
    assert house.job(video).state is State.RUNNING
    assert book.slots_taken(0.0) == 1
    assert (job.id in book.tasks) is True


async def test_a_deleted_task_that_upstream_finishes_frees_its_slot(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream(generation=60.0)
    house = await make_gateway(upstream.url)
    caller = make_caller(house)
    # The fixtures of this folder stop the engine; this one runs.
    video = await caller.create("unwanted")
    await until(lambda: house.job(video).state is State.RUNNING)
    await delete(caller, video)
    await until(lambda: house.job(video).state is State.FAILED)
    assert house.job(video).error_code == "deleted"
    assert house.ledger.live.books["default"].slots_taken(house.gateway.clock.now()) == 0
    assert submits_by_prompt(upstream.state.record) == {"unwanted": 1}
    assert not any(
        call.kind == "download" for call in upstream.state.record if hasattr(call, "kind")
    )


async def test_a_video_on_its_way_home_ends(caller: Caller, house: House) -> None:
    video = await caller.create()
    await bring(house, video, State.FETCHING, finished=house.gateway.clock.now())
    await delete(caller, video)
    assert house.job(video).state is State.FAILED
    assert video not in house.ledger.live.jobs


async def test_a_completed_videos_content_is_removed(caller: Caller, house: House) -> None:
    video = await caller.create()
    await complete(house, video)
    assert list((house.folder / "videos").rglob(f"{video}*"))
    await delete(caller, video)
    await assert_gone(caller, video)
    assert not list((house.folder / "videos").rglob(f"{video}*"))
    assert house.job(video).content_gone


async def test_a_submit_that_is_refused_after_the_delete_is_never_made_again(
    caller: Caller, house: House
) -> None:
    video = await caller.create()
    job = await bring(house, video, State.SUBMITTING)
    await delete(caller, video)
    assert house.job(video).state is State.SUBMITTING  # its POST is under way
    await house.ledger.commit(move(job, State.CANCELLED, {}))
    assert house.ledger.live.line.first() is None


async def test_others_can_not_delete_it(house: House, make_caller) -> None:
    alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
    video = await alice.create()
    error_of(await bob.http.delete(f"/v1/videos/{video}"), 404)
    assert (await alice.video(video))["id"] == video


async def test_what_has_come_of_a_download_is_removed(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream()
    house = await make_gateway(upstream.url)
    caller = make_caller(house)
    video = await caller.create("x sandbox:cut")
    await until(lambda: (job := house.job(video)).state is State.FETCHING and job.misses)
    assert {path.stem for path in (house.folder / "parts").iterdir()} == {video}
    await delete(caller, video)  # between two downloads
    assert not list((house.folder / "parts").iterdir())
