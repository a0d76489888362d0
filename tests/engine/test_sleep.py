"""The machine slept: hours went by, and the event loop's own timers have not noticed."""

import asyncio
from typing import Any

import pytest
from conftest import MakeGateway
from stage import House, until
from upstream.bench import Request, http, serving

from gateway.clock import Clock
from gateway.engine import watch
from gateway.engine.watch import Watch
from gateway.job import Kind
from gateway.ledger.knock import Door

from .test_odd_upstreams import MISSING, VIDEO, Provider, status

LIMITED = http(429, {"error": {"message": "slow down"}}, "retry-after: 3000")
HOURS = 4000.0


class Drowsy(Provider):
    """Its second video stays in progress, and its third POST is refused for nearly an hour."""

    def __init__(self) -> None:
        super().__init__(content=MISSING)
        self.limited = 0

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST" and self.submits == 2 and not self.limited:
            self.limited += 1
            writer.write(LIMITED)
        elif request.path.endswith("task_2"):
            writer.write(status("in_progress", 1))
        else:
            await super().__call__(request, writer)


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks are compared once a minute; here once in a moment."""
    monkeypatch.setattr(watch, "EVERY", 0.02)


async def asleep(house: House, caller, provider: Drowsy) -> list[str]:
    """A video to be fetched, one to be polled, one to be submitted; and all of them must wait."""
    fetching = await caller.create("to be fetched")
    await until(lambda: house.job(fetching).state == "fetching")
    running = await caller.create("to be polled")
    await until(lambda: house.job(running).state == "running")
    waiting = await caller.create("to be sent")
    await until(lambda: provider.limited and house.account.trouble)
    await until(lambda: not house.ledger.live.books["default"].open_calls())
    return [fetching, running, waiting]


def wake_up(house: House, seconds: float) -> None:
    """So many seconds have gone by; nobody is told."""
    house.gateway.clock._offset += seconds


async def test_what_may_expire_is_fetched_before_anything_else(
    looks_often: None, make_gateway: MakeGateway, make_caller
) -> None:
    provider = Drowsy()
    async with serving(provider) as server:
        house = await make_gateway(
            server.url, polling={"task_life": 90_000.0, "max_wait": 80_000.0}
        )
        caller = make_caller(house)
        fetching, _, waiting = await asleep(house, caller, provider)
        seen = len(server.seen)
        provider.content = http(200, VIDEO)
        wake_up(house, HOURS)
        await until(lambda: len(server.seen) >= seen + 3)
        calls = sorted(house.ledger.live.books["default"].calls.items())
        first, *others = [call.kind for _, call in calls][:3]
        assert first is Kind.DOWNLOAD
        assert {*others} == {Kind.POLL, Kind.SUBMIT}
        assert (await caller.finished(fetching))["status"] == "completed"
        await until(lambda: house.job(waiting).upstream_id)
        await house.stop()


async def test_what_has_expired_meanwhile_is_told_at_the_first_look(
    looks_often: None, make_gateway: MakeGateway, make_caller
) -> None:
    provider = Drowsy()
    async with serving(provider) as server:
        house = await make_gateway(
            server.url,
            content={"upstream_ttl": 3600.0},
            polling={"task_life": 3600.0, "max_wait": 600.0},
        )
        caller = make_caller(house)
        fetching, running, _ = await asleep(house, caller, provider)
        downloads = len(provider.downloads)
        wake_up(house, HOURS)
        told = await caller.finished(fetching)
        assert told["error"]["code"] == "content_expired"
        assert len(provider.downloads) == downloads + 1
        told = await caller.finished(running)
        assert told["error"]["code"] == "generation_timeout"
        metrics = (await caller.http.get("/metrics")).text
        assert 'video_gateway_content_expired_total{account="default"} 1.0' in metrics
        await house.stop()


async def test_a_sleep_wakes_all_loops_once_and_time_that_all_clocks_count_wakes_none(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: Any = asyncio.get_running_loop()
    seconds, clock, passed = loop.time, Clock(), [0.0]
    monkeypatch.setattr(watch, "EVERY", 0.0)
    loop.time = lambda: seconds() + passed[0]  # for good: a loop's time never goes back
    woken: list[str] = []
    wakers = [lambda: woken.append("one"), lambda: woken.append("other")]
    watching = asyncio.create_task(Watch(house.ledger, clock, Door(house.folder), wakers).run())

    async def look() -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return woken

    assert await look() == []
    clock._offset, passed[0] = HOURS, HOURS
    assert await look() == []
    clock._offset += 30.0
    assert await look() == ["one", "other"]
    clock._offset += 30.0
    assert await look() == ["one", "other"] * 2
    watching.cancel()
    await asyncio.wait((watching,))
