"""The engine wakes when there is something to see, and at no other time."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeCaller, MakeGateway, MakeUpstream
from stage import House, until

from gateway.clock import Clock
from gateway.engine import dispatcher, janitor
from gateway.engine.watch import Watch
from gateway.job import AccountChanged, Event
from gateway.ledger.knock import NAME, Door, knock
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account
from gateway.policy.dispatch import next_call
from gateway.policy.habit import unknown
from gateway.policy.polling import PollingRule, Running, when_to_poll

DAY = 86_400.0


class Idle:
    """A gateway with nothing to do, what its engine does all the same, and hours for it to pass.

    `decisions`: how often it asked what comes next; `looks`: at what other processes wrote. It
    begins to count when the housekeeping of the start is done.
    """

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.decisions = 0
        self.looks = 0
        self._passed = 0.0
        loop: Any = asyncio.get_running_loop()
        seconds = loop.time
        loop.time = lambda: seconds() + self._passed  # for good: a loop's time never goes back
        monkeypatch.setattr(dispatcher, "next_call", self._decide)
        house.ledger._reader.set_trace_callback(self._read)

    async def settle(self) -> None:
        """Until nothing is left to do that could be done now."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Every timer that is due by then goes off, and nobody waits for it. The machine's clock
        goes on as the loop's does.
        """
        self._passed += seconds
        self.house.gateway.clock._offset += seconds
        await self.settle()

    def _decide(self, *view_and_rules: Any) -> Any:
        self.decisions += 1
        return next_call(*view_and_rules)

    def _read(self, sql: str) -> None:
        self.looks += "data_version" in sql


MakeIdle = Callable[..., Awaitable[Idle]]


@pytest.fixture
def idle_with(
    make_gateway: MakeGateway, make_upstream: MakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> MakeIdle:
    """The janitor has its rounds, which are no part of this: here one a day."""
    rests: list[float] = []
    sleep = Clock.sleep

    async def noted(self: Clock, seconds: float) -> None:
        rests.append(seconds)
        await sleep(self, seconds)

    monkeypatch.setattr(janitor, "EVERY", DAY)
    monkeypatch.setattr(Clock, "sleep", noted)

    async def make(**sections: Any) -> Idle:
        house = await make_gateway((await make_upstream()).url, **sections)
        await until(lambda: DAY in rests)
        idle = Idle(house, monkeypatch)
        await idle.settle()
        idle.decisions = idle.looks = 0
        return idle

    return make


@pytest.fixture
async def idle(idle_with: MakeIdle) -> Idle:
    return await idle_with()


async def test_an_idle_server_decides_nothing_and_looks_at_nothing(idle: Idle) -> None:
    for _ in range(600):
        await idle.pass_time(1.0)
    for _ in range(100):
        await idle.pass_time(61.0)
    assert (idle.decisions, idle.looks) == (0, 0)


async def test_a_knock_is_one_look_and_no_decision_where_nothing_was_written(idle: Idle) -> None:
    for number in range(1, 4):
        knock(idle.house.folder)
        await until(lambda number=number: idle.looks >= number)
        await idle.settle()
        assert (idle.decisions, idle.looks) == (0, number)


async def test_what_another_process_writes_is_one_look_and_is_decided_on(idle: Idle) -> None:
    paused = seen(idle.house, lambda event: event.account.paused)
    commit_beside(idle.house.folder, pause_account("default", True), 0.0)
    await asyncio.wait_for(paused.wait(), 20)
    await idle.settle()
    assert idle.looks == 1
    assert idle.decisions >= 1


async def test_a_pause_by_the_command_line_is_seen_at_once(idle: Idle, tmp_path: Path) -> None:
    """No request comes, no round of the janitor, and no time passes that a timer would notice."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\ndata_dir = "{idle.house.folder}"\n'
        '[[accounts]]\nbase_url = "http://upstream.invalid"\n'
    )
    for word, wanted in (("pause", True), ("resume", False)):
        told = seen(idle.house, lambda event, wanted=wanted: event.account.paused is wanted)
        command = [sys.executable, "-m", "gateway", "accounts", word, "default"]
        process = await asyncio.create_subprocess_exec(
            *command, "--config", str(config), stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
        await asyncio.wait_for(told.wait(), 20)
        assert idle.house.account.paused is wanted


async def test_a_video_is_polled_at_its_moment_and_nothing_wakes_before(
    idle_with: MakeIdle, make_caller: MakeCaller
) -> None:
    """It is more than an hour until then."""
    hours = {"interval": 1800.0, "expected": 6 * 3600.0, "max_wait": 8 * 3600.0, "task_life": DAY}
    idle = await idle_with(polling=hours)
    video = await make_caller(idle.house).create()
    await until(lambda: idle.house.job(video).state == "running")
    await idle.settle()
    submitted = idle.house.job(video).submitted
    running = Running(video, submitted, None, (), unknown(6 * 3600.0))
    due = when_to_poll(running, PollingRule(**hours), 0.0)
    minutes = int((due - submitted) / 60)
    assert minutes > 60
    before = idle.decisions
    for _ in range(minutes - 1):
        await idle.pass_time(60.0)
    assert idle.decisions == before
    assert idle.house.job(video).polled is None
    await idle.pass_time(due - idle.house.gateway.clock.now() + 0.1)
    await until(lambda: idle.house.job(video).polled)


async def test_what_was_written_before_there_was_a_door_is_seen_when_it_opens(idle: Idle) -> None:
    house = idle.house
    (house.folder / NAME).unlink()  # nobody can knock any more
    commit_beside(house.folder, pause_account("default", True), 0.0)
    await idle.settle()
    assert not house.account.paused
    watching = asyncio.create_task(
        Watch(house.ledger, house.gateway.clock, Door(house.folder), ()).run()
    )
    await idle.settle()
    assert house.account.paused
    watching.cancel()
    await asyncio.wait((watching,))


async def test_a_gateway_without_a_door_sees_it_in_the_janitors_round(
    make_gateway: MakeGateway,
    make_upstream: MakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(janitor, "EVERY", 0.02)
    house = await make_gateway((await make_upstream()).url)
    (house.folder / NAME).unlink()  # nobody can knock any more
    paused = seen(house, lambda event: event.account.paused)
    commit_beside(house.folder, pause_account("default", True), 0.0)
    await asyncio.wait_for(paused.wait(), 20)


async def test_the_door_stands_as_long_as_the_server_runs(
    make_gateway: MakeGateway, make_upstream: MakeUpstream
) -> None:
    house = await make_gateway((await make_upstream()).url)
    assert (house.folder / NAME).is_socket()
    await house.stop()
    assert not (house.folder / NAME).exists()
    (house.folder / NAME).write_bytes(b"")  # as a crash may leave it
    await house.start()
    assert (house.folder / NAME).is_socket()


def seen(house: House, wanted: Callable[[AccountChanged], bool]) -> asyncio.Event:
    """Set when the server knows of such a change of its account."""
    found = asyncio.Event()

    def listener(event: Event) -> None:
        if isinstance(event, AccountChanged) and wanted(event):
            found.set()

    house.ledger.listen(listener)
    return found
