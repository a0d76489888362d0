"""The log: one JSON object a line, with no secret in any."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from gateway import log
from gateway.keys import new_key

SECRET = "sk-upstream-4242"
LONGER = f"{SECRET}-and-more"
KEY = new_key()

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Sets up the log; gives the lines logged so far. None may hold a secret."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure([SECRET, LONGER, ""])

    def read() -> list[dict[str, Any]]:
        text = stream.getvalue()
        assert SECRET not in text
        assert KEY not in text
        return [json.loads(line) for line in text.splitlines()]

    yield read
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def test_a_line_is_an_object_with_its_level_and_its_time(lines: Lines) -> None:
    structlog.get_logger().info("call ended", account="main", seconds=1.5, ok=True, why=None)
    structlog.get_logger().warning("two")
    one, two = lines()
    assert one.pop("timestamp").endswith("Z")
    assert one == {
        "event": "call ended",
        "level": "info",
        "account": "main",
        "seconds": 1.5,
        "ok": True,
        "why": None,
    }
    assert two["level"] == "warning"


@pytest.mark.parametrize("secret", [SECRET, KEY], ids=["of the upstream", "of a caller"])
@pytest.mark.parametrize(
    "wrap",
    [
        str,
        lambda secret: f"Bearer {secret}!",
        lambda secret: ["x", secret],
        lambda secret: (secret,),
        lambda secret: {"headers": {"authorization": secret}},
        lambda secret: {secret: 1},
        lambda secret: {secret},
        lambda secret: secret.encode(),
        lambda secret: ValueError(secret),
    ],
    ids=["str", "within", "list", "tuple", "dict", "name", "set", "bytes", "error"],
)
def test_a_secret_is_taken_out_wherever_it_stands(
    lines: Lines, secret: str, wrap: Callable[[str], object]
) -> None:
    structlog.get_logger().info("event", value=wrap(secret))
    (line,) = lines()
    assert log.HIDDEN in json.dumps(line["value"])


def test_a_secret_in_the_event_itself_is_taken_out(lines: Lines) -> None:
    structlog.get_logger().info(f"refused {KEY} and {SECRET}")
    assert lines()[0]["event"] == "refused [key] and [key]"


def test_nothing_is_left_of_a_secret_that_begins_with_another(lines: Lines) -> None:
    structlog.get_logger().info("event", value=LONGER)
    assert lines()[0]["value"] == log.HIDDEN


def test_a_secret_in_a_traceback_is_taken_out(lines: Lines) -> None:
    try:
        raise ValueError(f"it was {SECRET}, and {KEY}")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines()
    assert "ValueError: it was [key], and [key]" in line["exception"]


def test_the_standard_librarys_loggers_are_no_way_around(lines: Lines) -> None:
    logger = logging.getLogger("some.library")
    logger.warning("refused %s", SECRET)
    try:
        raise ValueError(KEY)
    except ValueError:
        logger.exception("failed %s", {"key": KEY})
    one, two = lines()
    assert one["event"] == "refused [key]"
    assert two["event"] == "failed {'key': '[key]'}"
    assert "ValueError: [key]" in two["exception"]


def test_libraries_that_log_whole_addresses_are_quiet(lines: Lines) -> None:
    for name in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(name).info("GET https://host/path?token=x")
    assert lines() == []


def test_below_its_level_nothing_is_logged_and_standard_output_is_left_alone(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure([], level=log.WARNING)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    written = capsys.readouterr()
    assert [json.loads(line)["event"] for line in written.err.splitlines()] == ["loud"]
    assert written.out == ""
