"""Upstreams that no sandbox plays: each speaks exact bytes."""

import asyncio
import hashlib
import itertools

import pytest
from stage import mp4, until
from upstream.bench import Request, http, serving

from gateway.clock import read_boot
from gateway.ledger.report import report_accounts
from gateway.policy.estimate import OUTAGE

VIDEO = mp4()
MISSING = http(404, {"error": {"message": "no such video", "code": "not_found"}})


class Provider:
    """Accepts every submit, and tells of each video what `polls` says, the last again and again."""

    def __init__(self, polls: list[bytes] | None = None, content: bytes = http(200, VIDEO)) -> None:
        self.polls = polls or [status("completed", 100)]
        self.content = content
        self.submits = 0
        self.ids = (f"task_{number}" for number in itertools.count(1))
        self.downloads: list[Request] = []

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST":
            self.submits += 1
            writer.write(http(200, {"id": next(self.ids), "status": "submitted"}))
        elif request.path.endswith("/content"):
            self.downloads.append(request)
            writer.write(self.content)
        elif "task_" in request.path:
            writer.write(self.polls.pop(0) if len(self.polls) > 1 else self.polls[0])
        else:
            writer.write(MISSING)


def status(word: str, progress: object = None) -> bytes:
    return http(200, {"id": "task", "status": word, "progress": progress})


async def test_an_id_that_was_given_before_makes_no_second_owner(make_gateway, make_caller) -> None:
    provider = Provider([status("in_progress", 1)])
    provider.ids = itertools.repeat("task_1")
    async with serving(provider) as server:
        house = await make_gateway(server.url)
        caller = make_caller(house)
        first = await caller.create("one")
        await until(lambda: house.job(first).state == "running")
        second = await caller.create("two")
        told = await caller.finished(second)
        assert told["error"]["code"] == "submission_outcome_unknown"
        assert house.job(first).state == "running"
        assert house.fatal == []
        await house.stop()


async def test_progress_never_falls_and_odd_words_count_as_in_progress(
    make_gateway, make_caller
) -> None:
    polls = [
        status("in_progress", 60),
        status("submitted", 20),
        status("dreaming", -5),
        http(200, b'{"status": "in_progress", "progress": NaN}'),
        status("in_progress", "70%"),
        status("in_progress", 170),
        status("in_progress"),
        status("completed", 3),
    ]
    async with serving(Provider(polls)) as server:
        house = await make_gateway(server.url, polling={"interval": 0.05, "expected": 0.05})
        caller = make_caller(house)
        video = await caller.create()
        seen: list[tuple[str, int]] = []
        while not seen or seen[-1][0] != "completed":
            told = await caller.video(video)
            seen.append((told["status"], told["progress"]))
            await asyncio.sleep(0.005)
        await house.stop()
    words = [word for word, _ in itertools.groupby(seen, key=lambda pair: pair[0])]
    assert words == ["submitted", "in_progress", "completed"]
    figures = [progress for _, progress in seen]
    assert figures == sorted(figures)
    assert set(figures) <= {0, 60, 70, 99, 100}
    assert figures[-1] == 100


async def test_a_video_that_is_never_done_fails_at_the_end_of_its_life(
    make_gateway, make_caller
) -> None:
    async with serving(Provider([status("in_progress", 99)])) as server:
        house = await make_gateway(server.url, polling={"task_life": 0.6, "max_wait": 0.3})
        caller = make_caller(house)
        told = await caller.finished(await caller.create())
        assert told["error"]["code"] == "generation_timeout"
        await house.stop()


async def test_content_that_upstream_keeps_no_longer_has_expired(make_gateway, make_caller) -> None:
    provider = Provider(content=MISSING)
    async with serving(provider) as server:
        house = await make_gateway(server.url, content={"upstream_ttl": 0.5})
        caller = make_caller(house)
        video = await caller.create()
        told = await caller.finished(video)
        assert told["error"]["code"] == "content_expired"
        assert len(provider.downloads) >= 2
        assert (await caller.content(video)).status_code == 404
        await house.stop()
    assert list((house.folder / "videos").glob("*/*.mp4")) == []
    assert list((house.folder / "parts").iterdir()) == []


async def test_a_cut_of_unknown_length_is_told_from_a_whole_video(
    make_gateway, make_caller
) -> None:
    def until_it_closes(data: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + data

    provider = Provider()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        provider.content = until_it_closes(VIDEO if provider.downloads else VIDEO[:-50])
        await provider(request, writer)
        if request.path.endswith("/content"):
            await writer.drain()
            writer.close()

    async with serving(answer) as server:
        house = await make_gateway(server.url)
        caller = make_caller(house)
        video = await caller.create()
        assert (await caller.finished(video))["status"] == "completed"
        assert (await caller.content(video)).content == VIDEO
        assert len(provider.downloads) == 2
        await house.stop()


async def test_no_video_is_paid_for_that_there_is_no_room_for(make_gateway, make_caller) -> None:
    provider = Provider()
    async with serving(provider) as server:
        house = await make_gateway(server.url, content={"max_bytes": 1000, "video_bytes": 1000})
        caller = make_caller(house)
        video = await caller.create()
        for _ in range(10):  # each is a commit, after which the engine looks again
            assert (await caller.http.get("/readyz")).status_code == 200
        assert house.job(video).state == "queued"
        await house.stop()
    assert provider.submits == 0


async def test_what_is_told_of_a_video_is_true_of_its_bytes(make_gateway, make_caller) -> None:
    async with serving(Provider()) as server:
        house = await make_gateway(server.url)
        caller = make_caller(house)
        video = await caller.create()
        await caller.finished(video)
        job = house.job(video)
        assert job.content_sha256 == hashlib.sha256(VIDEO).hexdigest()
        assert job.content_bytes == len(VIDEO)
        assert list((house.folder / "parts").iterdir()) == []
        await house.stop()


@pytest.mark.parametrize("status_", [404, 429])
async def test_content_that_never_comes_lets_other_videos_through(
    make_gateway, make_caller, status_: int
) -> None:
    """Also where one call must be far from the next, so that each place is fought for."""
    provider = Provider()
    answer = http(status_, {"error": {"message": "no", "code": "none"}}, "retry-after: 1")

    async def lost(request: Request, writer: asyncio.StreamWriter) -> None:
        provider.content = answer if "task_1" in request.path else http(200, VIDEO)
        await provider(request, writer)

    async with serving(lost) as server:
        house = await make_gateway(server.url, account={"spacing": 0.5, "period": 0.5})
        caller = make_caller(house)
        first = await caller.create("never comes")
        await until(lambda: len(provider.downloads) >= 4)  # by then it is late, and due again
        assert (await caller.finished(await caller.create("comes")))["status"] == "completed"
        assert house.job(first).state == "fetching"
        await house.stop()


async def test_videos_that_cannot_be_fetched_hold_submits_back_and_it_is_told(
    make_gateway, make_caller
) -> None:
    provider = Provider(content=http(404, {"error": {"message": "no content", "code": "none"}}))
    async with serving(provider) as server:
        house = await make_gateway(server.url, account={"concurrent": 1, "requests": 1000})
        caller = make_caller(house)
        videos = [await caller.create(f"cat {number}") for number in range(3)]
        book = house.ledger.live.books["default"]
        await until(lambda: book.to_fetch_again() == 2)
        (account,) = (await caller.http.get("/readyz")).json()["accounts"]
        assert account["videos_to_fetch_again"] == 2
        assert account["submits_wait_for"] == "2 finished videos are to be fetched first"
        assert account["trouble"] is None
        metrics = (await caller.http.get("/metrics")).text
        assert 'video_gateway_to_fetch_again{account="default"} 2.0' in metrics
        assert [
            account.to_fetch_again for account in report_accounts(house.folder, read_boot())
        ] == [2]
        waiting = await caller.video(videos[2])
        assert (waiting["queue_position"], waiting["estimated_seconds"]) == (1, None)
        await until(lambda: house.job(videos[0]).misses >= OUTAGE)
        assert (await caller.video(videos[0]))["estimated_seconds"] is None
        assert provider.submits == 2
        provider.content = http(200, VIDEO)
        for video in videos:
            assert (await caller.finished(video))["status"] == "completed"
        await house.stop()
