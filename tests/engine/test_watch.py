"""What people are told of an account: a line when its trouble begins, changes and ends."""

import logging
from dataclasses import replace

import pytest
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import LogCapture, capture_logs

from gateway.engine.watch import tell
from gateway.job import Account, AccountChanged, Call, CallEnded, Kind
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account

WELL = Account("main")
ILL = replace(WELL, trouble="upstream does not serve: ConnectError")
DENIED = replace(WELL, trouble="upstream denies this key", doubt="upstream denies this key")


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (WELL, ILL, [("warning", "account is in trouble")]),
        (ILL, DENIED, [("warning", "account is in other trouble")]),
        (DENIED, replace(DENIED, doubt=None), []),
        (ILL, WELL, [("info", "account is well again")]),
        (WELL, replace(WELL, paused=True), [("info", "account paused")]),
        (replace(ILL, paused=True), ILL, [("info", "account resumed")]),
        (ILL, replace(ILL, failures=7), []),
    ],
)
def test_one_line_for_each_change(
    before: Account, now: Account, lines: list[tuple[str, str]]
) -> None:
    with capture_logs() as said:
        tell(AccountChanged(before, now))
    assert [(line["log_level"], line["event"]) for line in said] == lines
    assert all(line["account"] == "main" for line in said)


def test_other_events_are_not_told() -> None:
    with capture_logs() as said:
        tell(CallEnded(Call(1, "main", Kind.POLL, None, 0.0)))
    assert said == []


async def test_a_request_that_sees_it_first_has_no_part_in_the_line(house) -> None:
    capture = LogCapture()
    structlog.configure([merge_contextvars, capture], structlog.make_filtering_bound_logger(0))
    commit_beside(house.folder, pause_account("default", True), 0.0)
    with bound_contextvars(caller="alice"):
        house.ledger.catch_up()
    (line,) = capture.entries
    assert line == {"event": "account paused", "account": "default", "log_level": "info"}


async def test_an_outage_is_told_when_it_begins_and_when_it_ends(
    make_upstream, make_gateway, make_caller
) -> None:
    upstream = await make_upstream()
    house = await make_gateway(upstream.url)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as said:
        video = await make_caller(house).create("sandbox:500")
        await make_caller(house).finished(video)
    told = [line["event"] for line in said if "account is" in line["event"]]
    assert told == ["account is in trouble", "account is well again"]
