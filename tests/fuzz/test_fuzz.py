"""No request, however odd, gets an answer that isn't planned, hangs, or harms the server."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .__main__ import attack
from .line import exchange
from .requests import MAKERS
from .target import Target


@pytest.mark.parametrize("kind", sorted(MAKERS))
@settings(max_examples=60)
@given(rng=st.randoms(use_true_random=False))
def test_no_request_is_too_odd(target: Target, kind: str, rng: Random) -> None:
    answers = asyncio.run(exchange(target.port, MAKERS[kind](rng, target)))
    assert [answer.complaint for answer in answers if answer.complaint] == []


@settings(max_examples=100)
@given(sent=st.binary(max_size=300))
def test_any_bytes(target: Target, sent: bytes) -> None:
    answers = asyncio.run(exchange(target.port, sent + b"\r\n\r\n"))
    assert [answer.complaint for answer in answers if answer.complaint] == []


def test_thousands_at_once(target: Target) -> None:
    tally = asyncio.run(attack(target, 3000, seed=1))
    assert tally.wrong == []
    assert tally.requests == 3000
    for status in ("200", "206", "304"):  # many of them are honest
        assert tally.statuses[status] > 0
    assert target.complaints() == []
