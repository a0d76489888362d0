"""A gateway that is stopped, or killed, and started again on its folder goes on where it was."""

import asyncio
import hashlib
import time
from contextlib import closing
from pathlib import Path

import pytest
from crashes.processes import free_port
from simulation.machine import limit_ledger
from stage import SPEED, House, mp4, settings_for, until

from gateway.clock import Boot, read_boot
from gateway.content.videos import VideoStore
from gateway.errors import StartError
from gateway.job import Job, Kind, State
from gateway.ledger.database import open_for_reading
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account
from gateway.ledger.transitions import read_job, reserve
from gateway.policy.window import Place
from gateway.sandbox import Running, SandboxSettings, running
from gateway.sandbox.record import (
    Arrived,
    most_calls_in_window,
    refused,
    submits_by_prompt,
)

from .test_delivery import delivered, made_by, statuses


def job_in(folder: Path, video: str) -> Job:
    """A job, while no server runs."""
    with closing(open_for_reading(folder)) as file:
        return read_job(file.execute("SELECT * FROM jobs WHERE id = ?", (video,)).fetchone())


def leave_open(house: House, kind: Kind, job: Job | None) -> None:
    """What a crash right after the reservation of a call leaves in the ledger."""
    clock = house.gateway.clock
    call = reserve(
        kind, job, account="default", boot=house.ledger.boot, now=clock.now(), wall=clock.wall()
    )
    commit_beside(house.folder, call, clock.wall())


async def test_running_videos_go_on(make_upstream, make_gateway, make_caller) -> None:
    upstream = await make_upstream(generation=150.0)
    house = await make_gateway(upstream.url)
    caller = make_caller(house)
    videos = {prompt: await caller.create(prompt) for prompt in ("one", "two")}
    await until(lambda: all(house.job(video).state == "running" for video in videos.values()))
    await house.stop()
    await house.start()
    caller = make_caller(house)
    for prompt, video in videos.items():
        assert await delivered(caller, video) == made_by(upstream, prompt)
    assert submits_by_prompt(upstream.state.record) == {"one": 1, "two": 1}


async def test_queued_jobs_go_on_in_their_order(make_upstream, make_gateway, make_caller) -> None:
    house = await make_gateway("http://upstream.invalid")
    caller = make_caller(house)
    videos = [await caller.create(f"cat {number}") for number in range(3)]
    await house.stop()
    upstream = await make_upstream()
    house.settings = settings_for(upstream.url, house.folder, account={"concurrent": 1})
    await house.start()
    caller = make_caller(house)
    for video in videos:
        assert (await caller.finished(video))["status"] == "completed"
    assert list(submits_by_prompt(upstream.state.record)) == ["cat 0", "cat 1", "cat 2"]


async def test_the_window_is_remembered(make_upstream, make_gateway, make_caller) -> None:
    upstream = await make_upstream(requests=3, period=2 * SPEED)
    house = await make_gateway(upstream.url, account={"requests": 3, "period": 2.0})
    caller = make_caller(house)
    for number in range(5):
        await caller.create(f"cat {number}")
    await until(lambda: len(statuses(upstream, "submit")) == 3)
    await house.stop()
    await house.start()
    await until(lambda: sum(isinstance(e, Arrived) for e in upstream.state.record) >= 4)
    calls = [event.at for event in upstream.state.record if isinstance(event, Arrived)]
    assert calls[3] - calls[0] >= 2 * SPEED
    assert refused(upstream.state.record) == ()
    assert most_calls_in_window(upstream.state.record, 2 * SPEED, with_refused=True) == 3


@pytest.mark.parametrize("wall", [-1_000_000.0, 1_000_000.0])
async def test_after_another_boot_the_account_waits_one_period(
    make_upstream, make_gateway, make_caller, wall: float
) -> None:
    upstream = await make_upstream(requests=3, period=1 * SPEED)
    house = await make_gateway(upstream.url, account={"requests": 3, "period": 1.0})
    caller = make_caller(house)
    for number in range(5):
        await caller.create(f"cat {number}")
    await until(lambda: len(statuses(upstream, "submit")) == 3)
    await house.stop()
    upstream.state.record.add(marker := Arrived(0, upstream.state.clock.now(), "other", None, True))
    await house.start(Boot("another boot", read_boot().seconds, time.time() + wall))
    came = lambda: [event for event in upstream.state.record if isinstance(event, Arrived)]  # noqa: E731
    await until(lambda: came()[-1] is not marker)
    after = came()[came().index(marker) + 1]
    assert after.at - marker.at >= 1 * SPEED
    assert refused(upstream.state.record) == ()


class TestACallWhoseEndNobodySaw:
    async def test_a_submit_is_unknown_and_never_sent(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        port = free_port()
        house = await make_gateway(f"http://127.0.0.1:{port}")
        caller = make_caller(house)
        video = await caller.create("was it sent?")
        await until(lambda: house.account.failures)
        await until(lambda: house.job(video).state == "queued")
        await house.stop()
        leave_open(house, Kind.SUBMIT, job_in(house.folder, video))
        upstream = await make_upstream(port=port)
        await house.start()
        caller = make_caller(house)
        told = await caller.video(video)
        assert (told["status"], told["error"]["code"]) == ("failed", "submission_outcome_unknown")
        assert (await caller.finished(await caller.create("after it")))["status"] == "completed"
        assert submits_by_prompt(upstream.state.record) == {"after it": 1}
        assert next(e.kind for e in upstream.state.record if isinstance(e, Arrived)) == "poll"

    async def test_without_room_to_write_that_down_the_start_is_refused(
        self, make_gateway, make_caller
    ) -> None:
        """Waiting for room, it would hear no signal."""
        house = await make_gateway("http://upstream.invalid")
        await house.stop()
        leave_open(house, Kind.POLL, None)
        with pytest.raises(StartError, match="no room for the ledger"):
            await house.start(
                prepare=lambda gateway: limit_ledger(gateway.ledger._engine, lambda: True)
            )
        await house.start()
        assert house.ledger.live.books["default"].open_calls() == []

    @pytest.mark.parametrize("kind", [Kind.SUBMIT, Kind.POLL])
    async def test_it_counts_as_ended_at_the_restart(
        self, make_gateway, make_caller, kind: Kind
    ) -> None:
        house = await make_gateway("http://upstream.invalid", account={"period": 3600.0})
        video = await make_caller(house).create("was it sent?")
        await until(lambda: house.account.failures)
        await until(lambda: house.job(video).state == "queued")
        await house.stop()
        job = job_in(house.folder, video)
        leave_open(house, kind, job if kind is Kind.SUBMIT else None)
        down = house.gateway.clock.now()
        await house.start()
        book = house.ledger.live.books["default"]
        (call,) = [call for call in book.calls.values() if call.kind is kind and call.touched]
        assert call.reserved <= down <= call.ended <= house.gateway.clock.now()
        assert house.gateway._dispatchers[0].view().places == [Place(call.reserved, call.ended)]

    @pytest.mark.parametrize(
        ("kind", "prompt", "state"),
        [(Kind.POLL, "a cat", State.RUNNING), (Kind.DOWNLOAD, "sandbox:cut", State.FETCHING)],
    )
    async def test_a_poll_or_download_is_made_again(
        self, make_upstream, make_gateway, make_caller, kind: Kind, prompt: str, state: State
    ) -> None:
        upstream = await make_upstream(generation=120.0)
        house = await make_gateway(upstream.url)
        video = await make_caller(house).create(prompt)
        await until(lambda: house.job(video).state is state)
        await house.stop()
        job = job_in(house.folder, video)
        assert job.state is state
        leave_open(house, kind, job)
        await house.start()
        assert await delivered(make_caller(house), video) == made_by(upstream, prompt)
        assert submits_by_prompt(upstream.state.record) == {prompt: 1}


async def test_content_adopted_but_not_recorded_needs_no_other_download(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream()
    house = await make_gateway(upstream.url)
    video = await make_caller(house).create("sandbox:late")
    await until(lambda: house.job(video).state == "fetching")
    await house.stop()
    assert job_in(house.folder, video).state == "fetching"
    downloads = len(statuses(upstream, "download"))
    store = VideoStore(house.folder, read_boot().id, 10**9, 10**8)
    part = await store.begin(video)
    await part.restart(None)
    await part.write(mp4())
    await store.keep(part, length_known=True)
    store.close()
    await house.start()
    told = await make_caller(house).video(video)
    assert told["status"] == "completed"
    answer = await make_caller(house).content(video)
    assert answer.content == mp4()
    assert answer.headers["etag"] == f'"{hashlib.sha256(mp4()).hexdigest()}"'
    assert len(statuses(upstream, "download")) == downloads


class TestShutdown:
    async def test_a_submit_under_way_is_answered_first(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream(latency=(100.0, 100.0))
        house = await make_gateway(upstream.url)
        video = await make_caller(house).create("a cat")
        await until(lambda: house.job(video).state == "submitting")
        await house.stop()
        assert job_in(house.folder, video).upstream_id
        await house.start()
        assert await delivered(make_caller(house), video) == made_by(upstream, "a cat")
        assert submits_by_prompt(upstream.state.record) == {"a cat": 1}

    async def test_one_that_outlasts_the_grace_is_unknown(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream(latency=(600.0, 600.0))
        house = await make_gateway(upstream.url, server={"grace": 0.2})
        video = await make_caller(house).create("a cat")
        await until(lambda: house.job(video).state == "submitting")
        async with asyncio.timeout(2):
            await house.stop()
        await house.start()
        told = await make_caller(house).video(video)
        assert told["error"]["code"] == "submission_outcome_unknown"

    async def test_no_call_is_reserved_once_it_has_begun(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream()
        house = await make_gateway(upstream.url)
        house.gateway.stop_calls()
        video = await make_caller(house).create("a cat")
        await house.stop()
        assert len(upstream.state.record) == 0
        assert job_in(house.folder, video).state == "queued"


async def test_a_second_server_on_the_folder_is_refused(house: House) -> None:
    with pytest.raises(StartError, match="another server is running"):
        await House(house.settings).start()


async def test_a_key_that_works_again_is_found_out(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream(api_key="the right key")
    house = await make_gateway(upstream.url)
    video = await make_caller(house).create("a cat")
    await until(lambda: house.account.doubt)
    await house.stop()
    right = House(house.settings, key="the right key")
    await right.start()
    try:
        await right.ledger.commit(pause_account("default", False))  # resumed: it need not wait
        assert await delivered(make_caller(right), video) == made_by(upstream, "a cat")
        assert right.account.trouble is None
    finally:
        await right.stop()


async def test_a_task_that_upstream_forgot_is_lost(make_gateway, make_caller) -> None:
    settings = SandboxSettings(speed=SPEED, video_fps=1)

    async def accepted(upstream: Running) -> tuple[House, str]:
        house = await make_gateway(upstream.url)
        video = await make_caller(house).create("a cat")
        await until(lambda: house.job(video).state == "running")
        return house, video

    async with running(settings) as upstream:
        house, video = await accepted(upstream)
        port = int(upstream.url.rpartition(":")[2])
    async with running(settings, port=port):
        told = await make_caller(house).finished(video)
    assert told["error"]["code"] == "upstream_lost_task"
