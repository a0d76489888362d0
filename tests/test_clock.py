"""The two clocks, which are never mixed."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway import clock
from gateway.clock import Clock, read_boot


def test_now_is_the_boots_seconds_carried_to_the_ledgers_timeline() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = Clock(offset=5000.0).now()
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before + 5000 <= now <= after + 5000


def test_a_boot_and_the_clock_of_its_ledger_read_the_same_seconds() -> None:
    boot = read_boot()
    assert boot.seconds <= Clock(0.0).now() <= read_boot().seconds


def test_now_never_falls() -> None:
    ours = Clock(1.0)
    moments = [ours.now() for _ in range(1000)]
    assert moments == sorted(moments)


def test_a_step_of_the_wall_clock_does_not_move_now(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Clock()
    now, wall = ours.now(), ours.wall()
    monkeypatch.setattr(time, "time", lambda: wall - 86_400)
    assert ours.wall() == wall - 86_400
    assert now <= ours.now() < now + 60


def test_the_boot_is_the_same_for_every_process_of_it() -> None:
    assert read_boot().id == read_boot().id


def test_a_boot_that_cannot_be_told_was_never_seen_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "none")
    assert len({read_boot().id for _ in range(3)}) == 3
    # Its seconds are those that the clock counts, all the same.
    assert time.clock_gettime(time.CLOCK_BOOTTIME) - read_boot().seconds < 1
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", time.CLOCK_PROCESS_CPUTIME_ID)
    assert read_boot().seconds <= time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def test_without_a_clock_that_counts_sleep_now_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems other than Linux."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    boot = read_boot()
    assert boot.seconds <= Clock().now()


async def test_sleeping_lets_others_go_on(anyio_backend: str) -> None:
    others = asyncio.ensure_future(asyncio.sleep(0, "gone on"))
    await Clock().sleep(0)
    assert await others == "gone on"
