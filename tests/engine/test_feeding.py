"""Who wakes for what: a commit wakes whom it concerns, and jobs that wait as many as they are."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
from conftest import MakeGateway
from stage import House, create_key, until
from upstream.bench import Server, serving

from gateway.content.videos import TYPICAL
from gateway.engine.dispatcher import Dispatcher
from gateway.engine.feeding import Feeding
from gateway.job import Job, State
from gateway.ledger.ledger import Ledger, commit_beside
from gateway.ledger.operator import pause_account
from gateway.ledger.transitions import Change, accept, note
from gateway.policy.dispatch import View

from .test_odd_upstreams import Provider, status

NAMES = ("a", "b", "c", "d", "e", "f")
BOTH = {"models": ["sora-2", "sora-2-pro"]}


@pytest.fixture
async def endless(anyio_backend: str) -> AsyncIterator[Server]:
    """An upstream that accepts whatever comes, and is never done."""
    async with serving(Provider([status("in_progress", 1)])) as server:
        yield server


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many decisions each account has made."""
    counted: Counter[str] = Counter()
    view = Dispatcher.view

    def counting(dispatcher: Dispatcher) -> View:
        counted[dispatcher._name] += 1
        return view(dispatcher)

    monkeypatch.setattr(Dispatcher, "view", counting)
    return counted


@pytest.fixture
def conflicts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs whose reservation came too late."""
    found: list[str] = []
    refresh = Ledger.refresh

    def counting(ledger: Ledger, job_id: str) -> Job | None:
        found.append(job_id)
        return refresh(ledger, job_id)

    monkeypatch.setattr(Ledger, "refresh", counting)
    return found


async def several(endless: Server, make_gateway: MakeGateway, **own: Any) -> House:
    """A gateway whose accounts are all hungry, and which knows alice."""
    accounts = {name: {"base_url": endless.url} | own.get(name, {}) for name in NAMES}
    polling = {"expected": 1000.0, "max_wait": 2000.0}
    house = await make_gateway("", accounts=accounts, polling=polling, requests=BOTH)
    await keeps_no_house(house)
    await until(lambda: sum(map(len, house.gateway._feeding._hungry.values())) == len(NAMES))
    return house


async def keeps_no_house(house: House) -> None:
    """From now on nothing is committed but what a test and the loops do: whatever is makes the line
    be looked at.
    """
    create_key(house.folder, "alice")
    for each in house.gateway._housekeeping:
        each.cancel()
    await asyncio.gather(*house.gateway._housekeeping, return_exceptions=True)
    await house.ledger.commit(lambda _conn: Change())  # it comes after all that went before


def a_job(house: House, **fields: Any) -> Job:
    clock = house.gateway.clock
    job = Job(
        id=f"video_{token_hex(8)}",
        caller="caller_alice",
        state=State.QUEUED,
        model="sora-2",
        size="1280x720",
        seconds=10,
        prompt="a boat",
        created_at=clock.wall(),
        accepted=clock.now(),
    )
    return replace(job, **fields)


async def enter(house: House, *jobs: Job) -> None:
    """Jobs enter the queue together."""
    await asyncio.gather(*(house.ledger.commit(accept(job)) for job in jobs))


async def all_running(house: House) -> None:
    live = house.ledger.live
    await until(lambda: live.jobs and {job.state for job in live.jobs.values()} == {State.RUNNING})
    await until(lambda: not any(book.open_calls() for book in live.books.values()))
    loops = house.gateway._dispatchers
    await until(lambda: not any(loop._changed.is_set() for loop in loops))  # all have looked


async def test_a_commit_wakes_nobody_whom_it_does_not_concern(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    looks.clear()
    await enter(house, a_job(house))
    await all_running(house)
    (name,) = looks  # one account alone has looked, all the way
    (job,) = house.ledger.live.jobs.values()
    assert job.account == name
    looks.clear()
    await house.ledger.commit(note(job, {"fetched_at": 1.0}))
    create_key(house.folder, "bob")
    house.ledger.catch_up()
    await asyncio.sleep(0)
    await until(lambda: looks[name])
    assert set(looks) == {name}


async def test_as_many_wake_as_jobs_wait(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    looks.clear()
    await enter(house, *(a_job(house) for _ in range(4)))
    await all_running(house)
    assert len(looks) == 4
    assert {job.account for job in house.ledger.live.jobs.values()} == set(looks)


async def test_only_those_wake_who_serve_the_model(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    own = {name: {"models": ["sora-2"]} for name in NAMES if name != "e"}
    house = await several(endless, make_gateway, **own)
    looks.clear()
    await enter(house, a_job(house, model="sora-2-pro"))
    await all_running(house)
    assert set(looks) == {"e"}


async def test_who_does_not_take_its_meal_passes_it_on(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    first = next(iter(*house.gateway._feeding._hungry.values()))
    looks.clear()
    ledger = house.ledger
    # Fed, and then paused in the same breath: it wakes, and may not take the job.
    await asyncio.gather(
        ledger.commit(accept(a_job(house))), ledger.commit(pause_account(first, True))
    )
    await all_running(house)
    (job,) = ledger.live.jobs.values()
    assert first in looks
    assert job.account != first
    assert set(looks) == {first, job.account}


async def test_one_that_comes_due_wakes_one_account_that_knew_nothing_of_it(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    looks.clear()
    due = house.gateway.clock.now() + 0.3
    await enter(house, a_job(house, retry=due))
    assert not looks
    await all_running(house)
    (job,) = house.ledger.live.jobs.values()
    assert job.submitted >= due
    assert set(looks) == {job.account}


async def test_one_that_could_not_submit_at_once_looks_when_it_can(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    account = {"base_url": endless.url, "requests": 1, "period": 1.0}
    polling = {"expected": 1000.0, "max_wait": 2000.0}
    house = await make_gateway("", accounts={"a": account}, polling=polling)
    await keeps_no_house(house)
    await enter(house, a_job(house))
    await all_running(house)
    looks.clear()
    await enter(house, a_job(house))  # the window is closed, and nothing of this concerns it
    assert not looks
    await all_running(house)


async def test_a_reservation_that_came_to_nothing_feeds_another(
    endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    live, clock = house.ledger.live, house.gateway.clock
    woken: list[str] = []
    feeding = Feeding(live, clock, lambda _videos: True)
    feeding.join("b", lambda: woken.append("b"))
    for name in NAMES:  # so that the gateway's own loops leave the job alone
        await house.ledger.commit(pause_account(name, True))
    job = a_job(house)
    await enter(house, job)
    job = live.jobs[job.id]
    with feeding.reserving(job):
        feeding.looked("b", frozenset({"sora-2"}), hungry=True)
        assert woken == []
    assert woken == ["b"]


async def test_two_accounts_never_reserve_the_same_job(
    conflicts: list[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    await enter(house, *(a_job(house) for _ in range(28)))
    await all_running(house)
    assert conflicts == []
    assert len({job.account for job in house.ledger.live.jobs.values()}) == len(NAMES)


async def test_what_another_process_writes_wakes_whom_it_concerns(
    looks: Counter[str], endless: Server, make_gateway: MakeGateway
) -> None:
    house = await several(endless, make_gateway)
    first = next(iter(*house.gateway._feeding._hungry.values()))
    looks.clear()
    commit_beside(house.folder, pause_account(first, True), 0.0)
    house.ledger.catch_up()
    await until(lambda: looks[first])
    assert set(looks) == {first}
    looks.clear()
    commit_beside(house.folder, accept(a_job(house)), 0.0)
    house.ledger.catch_up()
    await all_running(house)
    (name,) = looks
    assert name != first  # whose turn it was: it is not hungry any more


async def test_those_who_wait_for_room_wake_when_there_is_some(make_gateway: MakeGateway) -> None:
    provider = Provider([status("in_progress", 1)])
    async with serving(provider) as server:
        accounts = {name: {"base_url": server.url} for name in ("a", "b")}
        house = await make_gateway("", accounts=accounts, content={"max_bytes": 2 * TYPICAL})
        await keeps_no_house(house)
        live = house.ledger.live
        await enter(house, a_job(house), a_job(house))
        await until(lambda: live.counts[State.RUNNING] == 1)  # there is room for one at a time
        (first,) = [job for job in live.jobs.values() if job.state is State.RUNNING]
        (other,) = {"a", "b"} - {first.account}
        await house.ledger.commit(pause_account(first.account, True))
        await house.ledger.commit(pause_account(other, False))  # it looks, and sees no room
        provider.polls = [status("completed", 100)]
        await until(lambda: live.counts[State.COMPLETED] == 2)
        assert not live.jobs
        await house.stop()
