"""Refusals that are the account's and no job's: 429, and want of money or of a key. Nothing is
lost; the account says why it waits, and goes on by itself.
"""

import asyncio
from email.utils import formatdate
from time import time

import pytest
from conftest import MakeGateway
from stage import House, until
from upstream.bench import Request, http, serving

from .test_ambiguity import later
from .test_odd_upstreams import Provider, status

LIMITED = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
NO_MONEY = {"error": {"message": "Your balance is too low.", "code": "insufficient_quota"}}
FORBIDDEN = {"error": {"message": "This key may not do that.", "code": "forbidden"}}

PATIENT = {"task_life": 90_000.0, "max_wait": 80_000.0}


class Refusing(Provider):
    """Works on its first video; refuses the second POST with `refusal`, once."""

    def __init__(self, refusal: bytes) -> None:
        super().__init__([status("in_progress", 1)])
        self.refusal = refusal
        self.refused = 0

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST" and self.submits == 1 and not self.refused:
            self.refused += 1
            writer.write(self.refusal)
        else:
            await super().__call__(request, writer)


async def told(caller) -> dict:
    """What /readyz says of the account."""
    answer = await caller.http.get("/readyz")
    assert answer.status_code == 200
    return answer.json()["accounts"][0]


async def refused(house: House, caller, provider: Refusing) -> tuple[str, str]:
    """One video that upstream works on, and one that it has just refused."""
    first = await caller.create("one")
    await until(lambda: house.job(first).state == "running")
    second = await caller.create("two")
    await until(lambda: provider.refused and house.account.trouble)
    await until(lambda: not house.ledger.live.books["default"].open_calls())
    assert house.job(second).state == "queued"
    return first, second


@pytest.mark.parametrize(
    ("lines", "least", "most"),
    [
        (["retry-after: 500"], 500, 500),
        ([f"retry-after: {formatdate(time() + 100_000, usegmt=True)}"], 3600, 3600),
        (["retry-after: 99999999"], 3600, 3600),
        ([f"retry-after: {'9' * 400}"], 3600, 3600),
        ([], 60, 90),
    ],
    ids=["seconds", "a date days ahead", "years", "for ever", "nothing said"],
)
async def test_after_a_429_the_whole_account_waits(
    make_gateway: MakeGateway, make_caller, lines: list[str], least: float, most: float
) -> None:
    provider = Refusing(http(429, LIMITED, *lines))
    async with serving(provider) as server:
        house = await make_gateway(server.url, polling=PATIENT)
        caller = make_caller(house)
        videos = await refused(house, caller, provider)
        waits = house.account.opens - house.gateway.clock.now()
        assert least - 30 < waits <= most
        shown = await told(caller)
        assert "429" in shown["trouble"]
        assert shown["opens_in_seconds"] > least - 30
        metrics = (await caller.http.get("/metrics")).text
        assert 'video_gateway_upstream_rate_limited_total{account="default"} 1.0' in metrics

        seen = len(server.seen)
        later(house, waits - 20)
        for _ in range(10):  # each is a commit, after which the engine looks again
            await told(caller)
        assert len(server.seen) == seen  # not even a poll of the video that is paid for
        provider.polls = [status("completed", 100)]
        later(house, 21)
        for video in videos:
            assert (await caller.finished(video))["status"] == "completed"
        assert (await told(caller))["trouble"] is None
        await house.stop()


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (http(429, NO_MONEY, "retry-after: 1"), "Your balance is too low."),
        (http(402, NO_MONEY), "Your balance is too low."),
        (http(403, FORBIDDEN), "This key may not do that."),
    ],
    ids=["429", "402", "403"],
)
async def test_a_denied_account_submits_nothing_and_says_why(
    make_gateway: MakeGateway, make_caller, refusal: bytes, words: str
) -> None:
    provider = Refusing(refusal)
    async with serving(provider) as server:
        house = await make_gateway(server.url, polling=PATIENT | {"interval": 0.15})
        caller = make_caller(house)
        first, second = await refused(house, caller, provider)
        shown = await told(caller)
        assert shown["ok"] is False
        assert words in shown["trouble"]
        assert shown["submits_in_seconds"] > 0
        provider.polls = [status("completed", 100)]
        assert (await caller.finished(first))["status"] == "completed"  # it is paid for
        assert (house.job(second).state, provider.submits) == ("queued", 1)
        later(house, 60)
        assert (await caller.finished(second))["status"] == "completed"
        shown = await told(caller)
        assert (shown["ok"], shown["trouble"], shown["submits_in_seconds"]) == (True, None, 0)
        await house.stop()


async def test_a_task_that_failed_for_want_of_money_waits_for_it(
    make_gateway: MakeGateway, make_caller
) -> None:
    failed = http(200, {"id": "task_1", "status": "failed", **NO_MONEY})
    provider = Provider([failed])
    async with serving(provider) as server:
        house = await make_gateway(server.url, polling=PATIENT)
        caller = make_caller(house)
        video = await caller.create()
        await until(lambda: house.account.trouble)
        assert house.job(video).state == "queued"
        assert "Your balance is too low." in (await told(caller))["trouble"]
        provider.polls = [status("completed", 100)]
        later(house, 200)
        for _ in range(10):
            await told(caller)
        assert (house.job(video).state, provider.submits) == ("queued", 1)
        later(house, 101)
        assert (await caller.finished(video))["status"] == "completed"
        assert provider.submits == 2
        await house.stop()
