"""A job's way through the engine, in front of an upstream that misbehaves in one way after
another.
"""

import hashlib

import pytest
from crashes.processes import free_port
from stage import SPEED, Caller, House, picture, until

from gateway.ledger.callers import revoke_keys
from gateway.ledger.ledger import commit_beside
from gateway.sandbox import Running
from gateway.sandbox.record import (
    Arrived,
    Created,
    Ended,
    most_calls_in_window,
    most_tasks_at_once,
    refused,
    submits_by_prompt,
)


def made_by(upstream: Running, prompt: str) -> str:
    """The SHA-256 of the content that upstream made for a prompt."""
    (task,) = [task for task in upstream.state.tasks.values() if task.prompt == prompt]
    return str(upstream.state.studio.sha256(task))


def statuses(upstream: Running, kind: str) -> list[int | None]:
    """How upstream answered each call of a kind."""
    record = list(upstream.state.record)
    calls = {event.call for event in record if isinstance(event, Arrived) and event.kind == kind}
    return [event.status for event in record if isinstance(event, Ended) and event.call in calls]


async def delivered(caller: Caller, video: str) -> str:
    """The SHA-256 of what the caller is given once the video is completed."""
    told = await caller.finished(video)
    assert told["status"] == "completed", told["error"]
    answer = await caller.content(video)
    assert answer.status_code == 200
    return hashlib.sha256(answer.content).hexdigest()


async def test_a_video_is_delivered_byte_for_byte(
    house: House, caller: Caller, upstream: Running
) -> None:
    video = await caller.create("a cat")
    assert await delivered(caller, video) == made_by(upstream, "a cat")
    assert submits_by_prompt(upstream.state.record) == {"a cat": 1}
    assert house.fatal == []


async def test_an_input_image_goes_along_and_is_freed(
    house: House, caller: Caller, upstream: Running
) -> None:
    image = picture("JPEG", (640, 360))
    video = await caller.create("with an image", image)
    (spooled,) = (house.folder / "inputs").iterdir()
    assert spooled.read_bytes() == image
    assert await delivered(caller, video) == made_by(upstream, "with an image")
    assert list((house.folder / "inputs").iterdir()) == []


async def test_the_jobs_of_a_revoked_key_are_finished(
    house: House, caller: Caller, make_caller, upstream: Running
) -> None:
    video = await caller.create("still wanted")
    commit_beside(house.folder, revoke_keys("alice", 0.0), 0.0)
    assert (await caller.http.get(f"/v1/videos/{video}")).status_code == 401
    await until(lambda: house.job(video).state == "completed")
    assert (await caller.content(video)).status_code == 401
    assert await delivered(make_caller(house), video) == made_by(upstream, "still wanted")


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("policy", "content_policy_violation", "The prompt was rejected by the content policy."),
        ("parameters", "invalid_parameters", "The parameters could not be processed."),
        ("refuse", "moderation_blocked", "prompt: refused by moderation"),
    ],
)
async def test_a_failure_tells_upstreams_own_words(
    caller: Caller, upstream: Running, word: str, code: str, message: str
) -> None:
    video = await caller.create(f"sandbox:{word}")
    told = await caller.finished(video)
    assert told["status"] == "failed"
    assert told["error"] == {"code": code, "message": message}
    assert statuses(upstream, "submit") in ([200], [400])
    assert statuses(upstream, "download") == []


async def test_a_500_of_the_provider_sends_the_job_back_to_the_queue(
    house: House, caller: Caller, upstream: Running
) -> None:
    video = await caller.create("sandbox:500")
    await until(lambda: 500 in statuses(upstream, "submit"))
    await until(lambda: house.job(video).state == "queued")
    assert await delivered(caller, video) == made_by(upstream, "sandbox:500")
    assert statuses(upstream, "submit") == [500, 500, 200]
    assert submits_by_prompt(upstream.state.record) == {"sandbox:500": 1}


async def test_downloads_that_fail_are_made_again_until_the_bytes_are_right(
    caller: Caller, upstream: Running
) -> None:
    prompts = ["sandbox:late", "sandbox:html", "sandbox:cut"]
    videos = {prompt: await caller.create(prompt) for prompt in prompts}
    for prompt, video in videos.items():
        assert await delivered(caller, video) == made_by(upstream, prompt)
    answers = statuses(upstream, "download")
    assert sorted(answers) == [200, 200, 200, 200, 206, 404, 404]


class TestUnknown:
    """The answer to a submit never came."""

    async def test_it_fails_at_once_and_is_never_sent_again(
        self, caller: Caller, upstream: Running
    ) -> None:
        """And no other submit goes out before a GET was answered sanely."""
        told = await caller.finished(await caller.create("sandbox:lost"))
        assert told["error"]["code"] == "submission_outcome_unknown"
        assert "billed" in told["error"]["message"]
        later = await caller.finished(await caller.create("a job after it"))
        assert later["status"] == "completed"
        record = list(upstream.state.record)
        assert submits_by_prompt(record) == {"sandbox:lost": 1, "a job after it": 1}
        assert statuses(upstream, "submit") == [200, 200]
        first, looked, second = [event for event in record if isinstance(event, Arrived)][:3]
        assert (first.kind, looked.kind, second.kind) == ("submit", "poll", "submit")
        (answer,) = [e for e in record if isinstance(e, Ended) and e.call == looked.call]
        assert answer.status == 404
        assert answer.at < second.at

    async def test_its_ghost_keeps_a_slot(self, make_upstream, make_gateway, make_caller) -> None:
        upstream = await make_upstream(concurrent=1, generation=5.0)
        house = await make_gateway(
            upstream.url, account={"concurrent": 1}, polling={"max_wait": 2.5}
        )
        caller = make_caller(house)
        lost = await caller.create("sandbox:lost")
        later = await caller.create("a job after it")
        await caller.finished(lost)
        await caller.finished(later)
        first, second = [event for event in upstream.state.record if isinstance(event, Created)]
        assert second.at - first.at >= 2.5 * SPEED * 0.99


class TestOutage:
    async def test_jobs_wait_for_an_upstream_that_is_down(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        port = free_port()
        house = await make_gateway(f"http://127.0.0.1:{port}")
        caller = make_caller(house)
        videos = [await caller.create(f"cat {number}") for number in range(3)]
        await until(lambda: house.account.failures >= 1)
        assert {(await caller.video(video))["status"] for video in videos} == {"submitted"}
        assert house.account.trouble == "upstream does not serve: ConnectError"
        upstream = await make_upstream(port=port)
        for number, video in enumerate(videos):
            assert await delivered(caller, video) == made_by(upstream, f"cat {number}")
        assert house.account.trouble is None
        assert all(count == 1 for count in submits_by_prompt(upstream.state.record).values())

    async def test_calls_that_reached_nobody_take_no_place(self, make_gateway, make_caller) -> None:
        house = await make_gateway("http://upstream.invalid", account={"period": 3600.0})
        caller = make_caller(house)
        await caller.create()
        await until(lambda: house.account.failures)
        assert [
            call for call in house.ledger.live.books["default"].calls.values() if call.ended
        ] == []


class TestWrongKey:
    async def test_the_account_pauses_and_the_queue_is_kept(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream(api_key="another-key")
        house = await make_gateway(upstream.url)
        caller = make_caller(house)
        videos = [await caller.create(f"cat {number}") for number in range(3)]
        await until(lambda: house.account.doubt)
        await until(lambda: all(house.job(video).state == "queued" for video in videos))
        ready = await caller.http.get("/readyz")
        assert ready.status_code == 200
        (account,) = ready.json()["accounts"]
        assert account["ok"] is False
        assert "The API key is missing or wrong." in account["trouble"]
        assert {(await caller.video(video))["status"] for video in videos} == {"submitted"}
        assert len(statuses(upstream, "submit")) <= 3
        assert submits_by_prompt(upstream.state.record) == {}


class TestLimits:
    """By upstream's own record, never over: not its window, however it counts, nor its slots."""

    @pytest.mark.parametrize("count", ["arrival", "end"])
    async def test_a_crowd_of_jobs(self, make_upstream, make_gateway, make_caller, count) -> None:
        upstream = await make_upstream(count=count, latency=(0.0, 4.0))
        house = await make_gateway(upstream.url)
        caller = make_caller(house)
        videos = [await caller.create(f"cat {number}") for number in range(12)]
        for video in videos:
            assert (await caller.finished(video))["status"] == "completed"
        record = upstream.state.record
        assert refused(record) == ()
        assert most_calls_in_window(record, 60.0, "arrival", with_refused=True) <= 10
        assert most_calls_in_window(record, 60.0, "end", with_refused=True) <= 10
        assert most_tasks_at_once(record) <= 5
        assert set(submits_by_prompt(record).values()) == {1}

    async def test_a_small_window_is_used_up_to_its_limit(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream(requests=3)
        house = await make_gateway(upstream.url, account={"requests": 3})
        caller = make_caller(house)
        videos = [await caller.create(f"cat {number}") for number in range(4)]
        for video in videos:
            await caller.finished(video)
        assert refused(upstream.state.record) == ()
        assert most_calls_in_window(upstream.state.record, 60.0) == 3
