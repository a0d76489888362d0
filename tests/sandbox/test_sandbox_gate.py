"""The key, the window and the slots, as a caller meets them."""

import anyio
import httpx
import pytest

from gateway.sandbox.record import (
    Arrived,
    Ended,
    most_calls_in_window,
    most_tasks_at_once,
    refused,
    violations,
)

from .bench import KEY, Bench, Open, error_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("given", ["", "Bearer sandbox-key", "sandbox-key ", "other", "\u00e9"])
async def test_the_bare_key_and_nothing_else(bench: Bench, given: str) -> None:
    header = {"Authorization": given.encode("latin-1")}
    answer = await bench.client.get("/v1/videos/video_1", headers=header)  # type: ignore[arg-type]
    if given.strip() != "sandbox-key":
        error_of(answer, 401)
        assert not next(e for e in bench.state.record if isinstance(e, Arrived)).key_right
    assert "sandbox-key" not in repr(list(bench.state.record))


async def test_bearer_where_it_is_wanted(open_bench: Open) -> None:
    bench = open_bench(auth_scheme="Bearer")
    error_of(await bench.client.get("/v1/videos/video_1"), 401)
    right = {"Authorization": "Bearer sandbox-key"}
    error_of(await bench.client.get("/v1/videos/video_1", headers=right), 404)


async def test_a_wrong_key_takes_a_place_in_the_window(open_bench: Open) -> None:
    bench = open_bench(requests=1)
    wrong = {"Authorization": "other"}
    error_of(await bench.client.get("/v1/videos/video_1", headers=wrong), 401)
    error_of(await bench.client.get("/v1/videos/video_1", headers=KEY), 429)


async def test_every_kind_of_call_counts(open_bench: Open) -> None:
    bench = open_bench(requests=5)
    video = await bench.created()
    await bench.poll(video)
    await bench.download(video)
    error_of(await bench.submit(seconds="11"), 400)
    error_of(await bench.client.get("/nowhere"), 404)
    answer = await bench.client.get(f"/v1/videos/{video}")
    assert error_of(answer, 429)["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "60"
    kinds = [event.kind for event in bench.state.record if isinstance(event, Arrived)]
    assert kinds == ["submit", "poll", "download", "submit", "other", "poll"]
    assert len(refused(bench.state.record)) == 1


async def test_the_window_slides_and_a_429_takes_no_place(open_bench: Open) -> None:
    bench = open_bench(requests=2)
    video = await bench.created()
    bench.clock.turn(20.0)
    await bench.poll(video)
    for _ in range(3):
        bench.clock.turn(10.0)
        answer = await bench.client.get(f"/v1/videos/{video}")
        error_of(answer, 429)
    assert answer.headers["retry-after"] == "10"
    bench.clock.turn(9.75)
    assert (await bench.client.get(f"/v1/videos/{video}")).headers["retry-after"] == "1"
    bench.clock.turn(0.25)
    await bench.poll(video)
    record = bench.state.record
    assert most_calls_in_window(record, 60.0) == 2
    assert most_calls_in_window(record, 60.0, with_refused=True) == 6


async def test_retry_after_is_in_real_seconds(open_bench: Open) -> None:
    bench = open_bench(requests=1, speed=10.0)
    video = await bench.created()
    bench.clock.turn(15.0)
    assert (await bench.client.get(f"/v1/videos/{video}")).headers["retry-after"] == "5"


async def test_counted_by_end_a_call_takes_its_place_when_its_answer_ended(
    open_bench: Open,
) -> None:
    bench = open_bench(requests=1, count="end", latency=(8.0, 8.0))
    answers: list[httpx.Response] = []

    async def call() -> None:
        answers.append(await bench.client.get("/v1/videos/video_1"))

    async def turn(seconds: float) -> None:
        await anyio.wait_all_tasks_blocked()
        bench.clock.turn(seconds)
        await anyio.wait_all_tasks_blocked()

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await turn(8.0)  # it arrives, at the latest,
        assert len([e for e in bench.state.record if isinstance(e, Arrived)]) == 1
        group.start_soon(call)
        await turn(8.0)  # and the second before the first has ended, so nothing is counted yet
        await turn(8.0)
        await turn(8.0)
        assert [answer.status_code for answer in answers] == [404, 404]
        last = max(event.at for event in bench.state.record if isinstance(event, Ended))
        group.start_soon(call)
        await turn(8.0)
        await turn(8.0)
        assert answers[2].status_code == 429
        bench.clock.turn(last + 60.0 - bench.clock.at)
        group.start_soon(call)
        await turn(8.0)
        await turn(8.0)
    assert answers[3].status_code == 404
    record = bench.state.record
    assert most_calls_in_window(record, 60.0, "end") == 2
    assert [(event.call, event.taken) for event in violations(record)] == [(2, 1)]


async def test_counted_by_arrival_it_takes_its_place_at_once(open_bench: Open) -> None:
    bench = open_bench(requests=1, latency=(8.0, 8.0))
    answers: list[int] = []

    async def call() -> None:
        answers.append((await bench.client.get("/v1/videos/video_1")).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(call)
        for _ in range(4):
            await anyio.wait_all_tasks_blocked()
            bench.clock.turn(8.0)
    assert sorted(answers) == [404, 429]


async def test_latency_is_split_before_arrival_and_after(open_bench: Open) -> None:
    bench = open_bench(latency=(2.0, 6.0), seed=3)
    draws = [bench.state.draw_latency() for _ in range(200)]
    totals = [before + after for before, after in draws]
    assert 2.0 <= min(totals) < 2.5
    assert 5.5 < max(totals) <= 6.0
    assert all(before >= 0 and after >= 0 for before, after in draws)
    assert any(before > after for before, after in draws)
    assert any(before < after for before, after in draws)


async def test_one_task_too_many_is_refused_until_one_ends(open_bench: Open) -> None:
    bench = open_bench(concurrent=2, requests=2, spread=0.0)
    await bench.created("one")
    bench.clock.turn(60.0)
    await bench.created("two")
    answer = await bench.submit("three")
    assert error_of(answer, 429)["code"] == "concurrency_limit_exceeded"
    assert len(bench.state.tasks) == 2
    # That 429 gave its place in the window back:
    error_of(await bench.client.get("/v1/videos/video_1"), 404)
    bench.clock.turn(184.9)
    error_of(await bench.submit("three"), 429)
    bench.clock.turn(0.1)
    await bench.created("three")
    assert most_tasks_at_once(bench.state.record) == 2


@pytest.mark.parametrize("count", ["arrival", "end"])
async def test_however_calls_count_that_429_takes_no_place(open_bench: Open, count: str) -> None:
    bench = open_bench(concurrent=1, requests=3, count=count)
    await bench.created("one")
    for _ in range(5):
        assert error_of(await bench.submit("two"), 429)["code"] == "concurrency_limit_exceeded"
    assert bench.state.window.taken(bench.clock.at) == 1


async def test_a_hanging_task_keeps_its_slot(open_bench: Open) -> None:
    bench = open_bench(concurrent=1)
    await bench.completed("sandbox:hang")
    error_of(await bench.submit(), 429)


async def test_a_failed_task_gives_its_slot_back(open_bench: Open) -> None:
    bench = open_bench(concurrent=1)
    video = await bench.completed("sandbox:overload")
    await bench.created()
    told = await bench.poll(video)
    assert (told["status"], told["error"]["code"]) == ("failed", "overloaded")
    error_of(await bench.download(video), 404)
