"""The small pieces beneath: settings, clock, errors."""

import math
from typing import Any

import pytest
from starlette.responses import Response

from gateway.sandbox import SandboxSettings
from gateway.sandbox.clock import VirtualClock
from gateway.sandbox.errors import Refusal


def test_virtual_time_runs_at_its_speed_whatever_the_wall_clock_does() -> None:
    wall, monotonic = [1000.0], [50.0]
    clock = VirtualClock(10.0, wall=lambda: wall[0], monotonic=lambda: monotonic[0])
    assert clock.now() == 1000.0
    wall[0], monotonic[0] = 0.0, 52.5
    assert clock.now() == 1025.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": ""},
        {"vocabulary": "other"},
        {"count": "both"},
        {"requests": 0},
        {"period": 0.0},
        {"speed": math.inf},
        {"ttl": -1.0},
        {"spread": math.nan},
        {"latency": (2.0, 1.0)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxSettings(**wrong)


def test_a_refusal_says_what_kind_it_is() -> None:
    kinds = {
        401: "authentication_error",
        400: "invalid_request_error",
        429: "rate_limit_error",
        500: "server_error",
    }
    for status, kind in kinds.items():
        answer: Response = Refusal(status, "code", "message").answer()
        assert f'"type":"{kind}"'.encode() in bytes(answer.body)
