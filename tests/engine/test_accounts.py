"""Several accounts, each with a server of its own: one queue feeds them all."""

import pytest
from conftest import MakeCaller, MakeGateway, MakeUpstream
from crashes.processes import free_port
from stage import House, settings_for, until
from upstream.bench import serving

from gateway.clock import read_boot
from gateway.errors import StartError
from gateway.job import State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account
from gateway.sandbox import Running
from gateway.sandbox.record import submits_by_prompt

from .test_odd_upstreams import Provider

SLOW = {"expected": 1000.0, "max_wait": 2000.0}
BOTH = {"models": ["sora-2", "sora-2-pro"]}


@pytest.fixture
async def upstreams(make_upstream: MakeUpstream) -> dict[str, Running]:
    return {name: await make_upstream() for name in ("a", "b")}


def of(upstreams: dict[str, Running], **more: dict[str, object]) -> dict[str, dict[str, object]]:
    """An account's own settings for each upstream."""
    return {name: {"base_url": each.url} | more.get(name, {}) for name, each in upstreams.items()}


def sent(upstream: Running) -> set[str]:
    """The prompts that were submitted to it."""
    return set(submits_by_prompt(upstream.state.record))


def pause(house: House, name: str, paused: bool) -> None:
    commit_beside(house.folder, pause_account(name, paused), 0.0)


async def test_one_queue_feeds_both_and_a_job_stays_with_the_account_that_took_it(
    upstreams: dict[str, Running], make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    house = await make_gateway("", accounts=of(upstreams))
    caller = make_caller(house)
    videos = {f"boat {n}": await caller.create(f"boat {n}") for n in range(8)}
    for prompt, video in videos.items():
        assert (await caller.finished(video))["status"] == "completed"
        assert prompt in sent(upstreams[house.job(video).account])
    assert sent(upstreams["a"]) & sent(upstreams["b"]) == set()
    assert sent(upstreams["a"])
    assert sent(upstreams["b"])


async def test_an_account_is_given_the_models_that_it_serves(
    make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    async with serving(Provider()) as one, serving(Provider()) as other:
        accounts = {
            "a": {"base_url": one.url, "models": ["sora-2"]},
            "b": {"base_url": other.url, "models": ["sora-2-pro"]},
        }
        house = await make_gateway("", accounts=accounts, requests=BOTH)
        caller = make_caller(house)
        pause(house, "a", True)
        held = await caller.create("for a")
        pro = [await caller.create(f"for b {n}", model="sora-2-pro") for n in range(2)]
        for video in pro:  # what stands before them in line is not for this account
            assert (await caller.finished(video))["status"] == "completed"
        video = await caller.video(held)
        assert (video["queue_position"], video["estimated_seconds"]) == (1, None)
        assert one.seen == []
        pause(house, "a", False)
        assert (await caller.finished(held))["status"] == "completed"
        assert [house.job(video).account for video in (held, *pro)] == ["a", "b", "b"]
        await house.stop()


async def test_a_paused_account_is_passed_over_and_comes_back(
    upstreams: dict[str, Running], make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    house = await make_gateway("", accounts=of(upstreams))
    caller = make_caller(house)
    pause(house, "a", True)
    for number in range(3):
        await caller.finished(await caller.create(f"while a is paused {number}"))
    assert sent(upstreams["a"]) == set()
    pause(house, "a", False)
    pause(house, "b", True)
    await caller.finished(await caller.create("for a again"))
    assert sent(upstreams["a"]) == {"for a again"}
    told = (await caller.http.get("/readyz")).json()["accounts"]
    assert {each["name"]: each["paused"] for each in told} == {"a": False, "b": True}
    metrics = (await caller.http.get("/metrics")).text
    assert 'video_gateway_account_paused{account="b"} 1.0' in metrics
    assert 'video_gateway_account_paused{account="a"} 0.0' in metrics


async def test_an_account_that_backs_off_is_passed_over_and_comes_back_by_itself(
    upstream: Running,
    make_upstream: MakeUpstream,
    make_gateway: MakeGateway,
    make_caller: MakeCaller,
) -> None:
    port = free_port()
    accounts = {"a": {"base_url": f"http://127.0.0.1:{port}"}, "b": {"base_url": upstream.url}}
    house = await make_gateway("", accounts=accounts)
    caller = make_caller(house)
    books = house.ledger.live.books
    videos = [await caller.create(f"boat {number}") for number in range(4)]
    await until(lambda: books["a"].account.trouble)
    for video in videos:  # the one that was refused there as well
        assert (await caller.finished(video))["status"] == "completed"
        assert house.job(video).account == "b"
    back = await make_upstream(port=port)
    pause(house, "b", True)
    video = await caller.create("a again")
    assert (await caller.finished(video))["status"] == "completed"
    assert sent(back) == {"a again"}


async def test_polling_is_the_accounts_own(
    make_upstream: MakeUpstream, make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    slow = await make_upstream(generation=1e6)
    own = {"polling": {"interval": 0.02, "expected": 0.02, "max_wait": 0.05}}
    accounts = of({"a": slow, "b": slow}, a=own)
    house = await make_gateway("", accounts=accounts, polling={"max_wait": 3000.0})
    caller = make_caller(house)
    for prompt in ("one", "two"):
        await caller.create(prompt)
    live = house.ledger.live
    await until(lambda: live.counts[State.RUNNING] == 2)
    await until(lambda: live.books["a"].overdue(house.gateway.clock.now(), 0.05))
    told = (await caller.http.get("/readyz")).json()["accounts"]
    assert {each["name"]: each["videos_overdue"] for each in told} == {"a": 1, "b": 0}
    metrics = (await caller.http.get("/metrics")).text
    assert 'video_gateway_overdue{account="a"} 1.0' in metrics
    assert 'video_gateway_overdue{account="b"} 0.0' in metrics


async def test_an_account_with_tasks_may_not_leave_and_may_once_they_are_done(
    upstreams: dict[str, Running], make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    house = await make_gateway("", accounts=of(upstreams))
    caller = make_caller(house)
    pause(house, "b", True)
    video = await caller.create()
    await until(lambda: house.job(video).upstream_id)
    await house.stop()
    both, house.settings = house.settings, settings_for(upstreams["b"].url, house.folder)
    with pytest.raises(StartError, match="account 'a' is not in the settings"):
        await house.start(read_boot())
    house.settings = both
    await house.start(read_boot())
    assert (await make_caller(house).finished(video))["status"] == "completed"
    await house.stop()
    house.settings = settings_for(upstreams["b"].url, house.folder, account={"name": "b"})
    await house.start(read_boot())
    told = (await make_caller(house).http.get("/readyz")).json()["accounts"]
    assert [each["name"] for each in told] == ["b"]


async def test_a_place_is_that_in_the_line_that_moves_first(
    make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    """Whoever takes nothing now is waited for by nobody, and makes no line longer."""
    accounts = {
        "a": {"models": ["sora-2", "sora-2-pro"]},
        "b": {"models": ["sora-2"]},
    }
    house = await make_gateway(
        "http://upstream.invalid", accounts=accounts, requests=BOTH, polling=SLOW
    )
    house.gateway.stop_calls()
    caller = make_caller(house)
    for number in range(40):
        await caller.create(f"for a {number}", model="sora-2-pro")
    video = await caller.create("for either")
    told = []
    for paused in ((), ("b",), ("a",), ("a", "b")):
        for name in accounts:
            pause(house, name, name in paused)
        house.ledger.catch_up()
        shown = await caller.video(video)
        told.append((shown["queue_position"], shown["estimated_seconds"]))
    by_either, by_a, by_b, by_none = told
    assert by_either == by_b
    assert by_b[0] == 1
    assert by_a[0] == 41
    assert by_a[1] > 5 * by_b[1]
    assert by_none == (1, None)


async def test_others_take_jobs_that_are_before_one(
    make_gateway: MakeGateway, make_caller: MakeCaller
) -> None:
    """One small account takes everything, a large one what stands before the last job."""
    accounts = {
        "small": {"models": ["sora-2", "sora-2-pro"], "concurrent": 1},
        "large": {"models": ["sora-2"], "concurrent": 10, "requests": 100},
    }
    house = await make_gateway(
        "http://upstream.invalid", accounts=accounts, requests=BOTH, polling=SLOW
    )
    house.gateway.stop_calls()
    caller = make_caller(house)
    for number in range(40):
        await caller.create(f"for both {number}")
    video = await caller.create("for the small one", model="sora-2-pro")
    told = (await caller.video(video))["estimated_seconds"]
    pause(house, "large", paused=True)
    house.ledger.catch_up()
    alone = (await caller.video(video))["estimated_seconds"]
    assert alone > 5 * told
    pause(house, "large", paused=False)
    pause(house, "small", paused=True)
    house.ledger.catch_up()
    assert (await caller.video(video))["estimated_seconds"] is None  # the large one can't take it
