"""What is kept, for how long, and what makes room."""

import pytest
from api.bench import bring, complete, error_of
from conftest import MakeGateway
from crashes.upstream import Upstream
from ledger.bench import query
from stage import House, mp4, until

from gateway.engine.janitor import DAY
from gateway.job import State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.transitions import purge


@pytest.fixture
async def house(make_gateway: MakeGateway) -> House:
    """A gateway whose calls are stopped: only what the janitor does happens."""
    house = await make_gateway("http://127.0.0.1:9", content={"keep_days": 30, "prompt_days": 40})
    house.gateway.stop_calls()
    return house


async def later(house: House, days: float) -> None:
    """One round of the janitor, so many days on."""
    house.gateway.clock._offset += days * DAY
    await house.gateway._janitor.round()


async def finished_now(house: House, video: str) -> None:
    """A completed video, finished at this moment of the timeline."""
    await complete(house, video, finished=house.gateway.clock.now())


async def test_a_video_is_kept_for_its_days(house: House, caller) -> None:
    video = await caller.create()
    await finished_now(house, video)
    await later(house, 29.9)
    assert (await caller.content(video)).status_code == 200
    await later(house, 0.2)
    answer = await caller.content(video)
    assert error_of(answer, 410)["code"] == "content_gone"
    assert answer.headers["x-should-retry"] == "false"
    assert (await caller.video(video))["status"] == "completed"  # the object stays
    assert not list((house.folder / "videos").rglob("*.mp4"))


async def test_no_step_of_the_wall_clock_throws_a_video_away(house, caller, monkeypatch) -> None:
    video = await caller.create()
    await finished_now(house, video)
    monkeypatch.setattr(house.gateway.clock, "wall", lambda: 4e9)
    await house.gateway._janitor.round()
    assert (await caller.content(video)).status_code == 200


async def test_room_is_made_by_what_was_fetched_the_oldest_first(house: House, caller) -> None:
    videos = [await caller.create(f"cat {number}") for number in range(3)]
    for video in videos:
        await finished_now(house, video)
    store = house.gateway._videos
    for video in videos[1:]:
        await caller.content(video)
        await until(lambda video=video: house.job(video).fetched_at)
    store._max_bytes = store.used() + store._largest - 1  # one video too much
    await house.gateway._janitor.round()
    gone = [house.job(video).content_gone for video in videos]
    assert gone == [False, True, False]


async def test_what_nobody_has_fetched_is_never_dropped_for_room(house: House, caller) -> None:
    video = await caller.create()
    await finished_now(house, video)
    store = house.gateway._videos
    store._max_bytes = 1
    await house.gateway._janitor.round()
    assert not house.job(video).content_gone
    assert not store.has_room(1)  # submits wait instead


async def test_half_a_fetch_is_no_fetch(house: House, caller) -> None:
    video = await caller.create()
    await finished_now(house, video)
    await caller.content(video, range="bytes=0-99")
    await caller.http.head(f"/v1/videos/{video}/content")
    assert house.job(video).fetched_at is None
    await caller.content(video, range="bytes=-1")  # as players do, to find the index
    assert house.job(video).fetched_at is None
    await caller.content(video)
    await until(lambda: house.job(video).fetched_at)


async def test_ranges_that_go_on_from_each_other_are_a_fetch(house: House, caller) -> None:
    """As `curl -C -` makes them of a download that was cut off."""
    video = await caller.create()
    await finished_now(house, video)
    await caller.content(video, range="bytes=0-99")
    await caller.content(video, range="bytes=500-")  # what lies between them never went out
    assert house.job(video).fetched_at is None
    await caller.content(video, range="bytes=90-599")
    assert house.job(video).fetched_at is None
    await caller.content(video, range="bytes=600-")
    await until(lambda: house.job(video).fetched_at)


async def test_prompts_and_rows_have_an_age(house: House, caller) -> None:
    video, waiting = await caller.create("a secret plan"), await caller.create("still waiting")
    await finished_now(house, video)
    await later(house, 41)
    assert house.job(video).prompt == ""
    assert house.job(waiting).prompt == "still waiting"  # it is needed
    await later(house, 330)
    assert house.job(video) is None
    assert house.job(waiting) is not None


async def test_purge_beside_a_running_server(house: House, caller, make_caller) -> None:
    bob = make_caller(house, "bob")
    queued, done, running = [await caller.create(f"secret {n}") for n in range(3)]
    his = await bob.create("his")
    await finished_now(house, done)
    await bring(house, running, State.RUNNING, upstream_id="theirs")
    commit_beside(house.folder, purge("alice", 1.0), 1.0)
    for video in (queued, done, running):
        error_of(await caller.http.get(f"/v1/videos/{video}"), 404)
    await house.gateway._janitor.round()
    assert not list((house.folder / "videos").rglob("*.mp4"))
    assert house.ledger.live.line.first().id == his
    assert house.job(running).state is State.RUNNING  # paid for: its slot is still counted
    assert house.ledger.live.jobs[running].deleted_at is not None
    assert {house.job(video).prompt for video in (queued, done, running)} == {""}


async def test_what_has_come_of_a_download_goes_with_a_purge(
    house: House, caller, make_caller
) -> None:
    bob = make_caller(house, "bob")
    videos = [await caller.create(), await bob.create()]
    for video in videos:
        await bring(house, video, State.FETCHING, finished=house.gateway.clock.now())
        part = await house.gateway._videos.begin(video)
        await part.write(mp4())
        await part.flush()
    commit_beside(house.folder, purge("alice", 1.0), 1.0)
    await house.gateway._janitor.round()
    assert {path.stem for path in (house.folder / "parts").iterdir()} == {videos[1]}


async def test_damaged_content_is_fetched_again(make_upstream, make_gateway, make_caller) -> None:
    upstream = await make_upstream()
    house = await make_gateway(upstream.url)
    caller = make_caller(house)
    video = await caller.create("precious")
    await caller.finished(video)
    whole = (await caller.content(video)).content
    (path,) = (house.folder / "videos").rglob("*.mp4")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    await house.stop()
    await house.start()
    caller = make_caller(house)
    early = await caller.content(video)
    assert error_of(early, 404)["code"] == "content_not_ready"
    await until(lambda: not house.job(video).content_lost)
    assert (await caller.content(video)).content == whole, "other bytes"
    assert house.job(video).state is State.COMPLETED


async def test_lost_content_that_is_deleted_on_its_way_here_is_not_kept(
    make_gateway, make_caller
) -> None:
    async with Upstream(mp4()).serving() as upstream:
        upstream.answer_posts.set()
        upstream.send_all.set()
        house = await make_gateway(upstream.url)
        caller = make_caller(house)
        video = await caller.create()
        await caller.finished(video)
        (path,) = (house.folder / "videos").rglob("*.mp4")
        path.unlink()
        upstream.send_all.clear()
        error_of(await caller.content(video), 404)
        await until(lambda: upstream.halves)
        assert (await caller.http.delete(f"/v1/videos/{video}")).status_code == 200
        upstream.send_all.set()
        await until(lambda: not house.ledger.live.books["default"].open_calls())
        await until(lambda: not list((house.folder / "videos").rglob("*.mp4")))


async def test_a_download_under_way_ends_with_a_delete(make_gateway, make_caller) -> None:
    async with Upstream(mp4()).serving() as upstream:
        upstream.answer_posts.set()
        house = await make_gateway(upstream.url)
        caller = make_caller(house)
        video = await caller.create()
        await until(lambda: upstream.halves)
        assert (await caller.http.delete(f"/v1/videos/{video}")).status_code == 200
        await until(lambda: upstream.cut)
        await until(lambda: not house.ledger.live.books["default"].open_calls())
        await until(lambda: not list((house.folder / "parts").iterdir()))


async def test_damaged_content_that_upstream_no_longer_has_is_gone(house: House, caller) -> None:
    video = await caller.create()
    await complete(house, video, mp4(b"y" * 500), finished=0.0)
    (path,) = (house.folder / "videos").rglob("*.mp4")
    path.write_bytes(path.read_bytes()[:-1])
    assert error_of(await caller.content(video), 410)["code"] == "content_gone"


async def test_a_purge_is_seen_by_the_engine_without_any_request(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream(requests=1)
    house = await make_gateway(upstream.url, account={"requests": 1, "concurrent": 1})
    caller = make_caller(house)
    for number in range(3):
        await caller.create(f"secret {number}")
    commit_beside(house.folder, purge("alice", 1.0), 1.0)
    commits = 0

    def count(_change: object) -> None:
        nonlocal commits
        commits += 1

    house.ledger.on_commit(count)
    await until(lambda: house.ledger.live.counts[State.QUEUED] == 0)
    assert commits < 20  # it did not spin on jobs that are no longer there


@pytest.mark.parametrize(("period", "kept"), [(60.0, False), (30 * DAY, True)])
async def test_calls_are_kept_as_long_as_they_take_a_place(
    upstream, make_gateway, make_caller, period: float, kept: bool
) -> None:
    """A window may be longer than the days for which calls are kept otherwise."""
    house = await make_gateway(upstream.url, account={"period": period})
    caller = make_caller(house)
    await caller.finished(await caller.create())
    house.gateway.stop_calls()
    await later(house, 8.0)
    assert bool(query(house.folder, "SELECT id FROM calls")) is kept
