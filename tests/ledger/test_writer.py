"""The one writer: groups, order, and what a failure costs its neighbours."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection

from gateway.errors import LedgerBroken, LedgerFull, StateConflict
from gateway.job import Event, Job, JobMoved, State
from gateway.ledger.database import FILE
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import Change, Transition, accept, move
from gateway.ledger.writer import LARGEST_GROUP

from .bench import BOOT, WINDOWS, a_job, accepted, counting_commits, query


class Gate:
    """A transition that keeps the writer busy until all others of the test wait behind it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, _conn: Connection) -> Change:
        assert self._open.wait(10)
        return Change()

    async def lift(self) -> None:
        self._open.set()


def pragma(line: str) -> Transition:
    """Sets a PRAGMA on the writer's own connection."""

    def run(conn: Connection) -> Change:
        conn.exec_driver_sql(f"PRAGMA {line}")
        return Change()

    return run


async def test_many_that_wait_are_committed_together(ledger: Ledger, tmp_path: Path) -> None:
    gate = Gate()
    jobs = [ledger.commit(accept(a_job(number))) for number in range(100)]
    with counting_commits() as commits:
        await asyncio.gather(ledger.commit(gate), *jobs, gate.lift())
    assert len(commits) <= 2
    assert query(tmp_path, "SELECT count(*) FROM jobs") == [(100,)]


async def test_a_group_is_bounded(ledger: Ledger) -> None:
    gate = Gate()
    jobs = [ledger.commit(accept(a_job(number))) for number in range(LARGEST_GROUP + 10)]
    with counting_commits() as commits:
        await asyncio.gather(ledger.commit(gate), *jobs, gate.lift())
    assert len(commits) in (2, 3)


async def test_they_are_committed_and_told_in_the_order_in_which_they_came(
    ledger: Ledger, tmp_path: Path
) -> None:
    told: list[str] = []
    ledger.listen(lambda event: told.append(event.job.id) if isinstance(event, JobMoved) else None)
    gate = Gate()
    jobs = [ledger.commit(accept(a_job(number))) for number in range(50)]
    _, *changes, _ = await asyncio.gather(ledger.commit(gate), *jobs, gate.lift())
    wanted = [f"video_{number}" for number in range(50)]
    assert told == wanted
    assert [change.jobs[0].id for change in changes] == wanted
    assert query(tmp_path, "SELECT id FROM jobs ORDER BY seq") == [(name,) for name in wanted]


async def test_memory_shows_a_change_before_whoever_made_it_goes_on(ledger: Ledger) -> None:
    seen: list[Job | None] = []
    ledger.on_commit(lambda _: seen.append(ledger.live.jobs.get("video_7")))
    change = await ledger.commit(accept(a_job(7)))
    assert ledger.live.jobs["video_7"] == change.jobs[0]
    assert seen == [change.jobs[0]]


async def test_nobody_is_told_of_what_is_not_yet_committed(ledger: Ledger, tmp_path: Path) -> None:
    counts: list[int] = []

    def count(_event: object) -> None:
        counts.append(query(tmp_path, "SELECT count(*) FROM jobs")[0][0])

    ledger.listen(count)
    await accepted(ledger, 1)
    await accepted(ledger, 2)
    assert counts == [1, 2]


def fails(conn: Connection) -> Change:
    """Writes, and then finds that it should not have."""
    accept(a_job(999))(conn)
    raise StateConflict("no")


BAD = pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (fails, StateConflict, "no"),
        (lambda _conn: 1 / 0, ZeroDivisionError, "division"),
        (accept(a_job(1)), StateConflict, "UNIQUE constraint failed: jobs.id"),
        (accept(a_job(998, caller="nobody")), StateConflict, "FOREIGN KEY"),
        (accept(a_job(997, prompt="\ud800")), UnicodeEncodeError, "surrogates"),
    ],
    ids=["conflict", "a fault of ours", "an id twice", "a caller unknown", "no text"],
)


@BAD
async def test_one_that_fails_leaves_its_neighbours_alone(
    ledger: Ledger,
    tmp_path: Path,
    broken: list[LedgerBroken],
    bad: object,
    error: type[Exception],
    words: str,
) -> None:
    gate = Gate()
    work = [ledger.commit(each) for each in (accept(a_job(1)), bad, accept(a_job(2)))]
    with counting_commits() as commits:
        _, one, middle, two, _ = await asyncio.gather(
            ledger.commit(gate), *work, gate.lift(), return_exceptions=True
        )
    assert len(commits) <= 2
    assert isinstance(one, Change)
    assert isinstance(two, Change)
    assert isinstance(middle, error)
    assert words in str(middle)
    assert query(tmp_path, "SELECT id FROM jobs ORDER BY seq") == [("video_1",), ("video_2",)]
    assert set(ledger.live.jobs) == {"video_1", "video_2"}
    assert not broken


@BAD
async def test_one_that_fails_alone_writes_nothing(
    ledger: Ledger,
    tmp_path: Path,
    broken: list[LedgerBroken],
    bad: Transition,
    error: type[Exception],
    words: str,
) -> None:
    def run(conn: Connection) -> Change:
        accept(a_job(996))(conn)
        return bad(conn)

    await accepted(ledger, 1)
    with pytest.raises(error, match=words):
        await ledger.commit(run)
    await accepted(ledger, 2)
    assert query(tmp_path, "SELECT id FROM jobs ORDER BY seq") == [("video_1",), ("video_2",)]
    assert set(ledger.live.jobs) == {"video_1", "video_2"}
    assert not broken


async def test_a_full_disk_loses_nothing_but_what_it_refuses(
    ledger: Ledger, tmp_path: Path, broken: list[LedgerBroken]
) -> None:
    kept = await accepted(ledger, 0)
    await ledger.commit(pragma("max_page_count = 1"))  # SQLite takes it as: no page more
    gate = Gate()
    prompts = ["it would fit", "x" * 50_000, "x" * 50_000]
    work = [ledger.commit(accept(a_job(n, prompt=text))) for n, text in enumerate(prompts, 1)]
    _, *refused, _ = await asyncio.gather(
        ledger.commit(gate), *work, gate.lift(), return_exceptions=True
    )
    assert [type(each) for each in refused] == [LedgerFull] * 3
    assert ledger.live.jobs == {kept.id: kept}
    assert ledger.live.counts[State.QUEUED] == 1
    assert query(tmp_path, "SELECT id FROM jobs") == [(kept.id,)]

    await ledger.commit(pragma("max_page_count = 1000000"))
    again = await accepted(ledger, 1, prompt="x" * 50_000)
    assert list(ledger.live.jobs) == [kept.id, again.id]
    assert not broken


async def test_a_ledger_that_cannot_be_trusted_says_so(
    ledger: Ledger, broken: list[LedgerBroken]
) -> None:
    await ledger.commit(pragma("query_only = 1"))
    with pytest.raises(LedgerBroken, match="readonly"):
        await accepted(ledger)
    assert [str(each) for each in broken] == [
        "SQLITE_READONLY: attempt to write a readonly database"
    ]
    assert not ledger.live.jobs


async def test_who_stops_waiting_takes_nothing_back(ledger: Ledger, tmp_path: Path) -> None:
    gate = Gate()
    busy = asyncio.create_task(ledger.commit(gate))
    waiting = asyncio.create_task(ledger.commit(accept(a_job(1))))
    await asyncio.sleep(0)
    waiting.cancel()
    await gate.lift()
    await busy
    await accepted(ledger, 2)
    assert query(tmp_path, "SELECT id FROM jobs") == [("video_1",), ("video_2",)]
    assert set(ledger.live.jobs) == {"video_1", "video_2"}


async def test_closing_commits_what_waits(ledger: Ledger, tmp_path: Path) -> None:
    gate = Gate()
    jobs = [asyncio.create_task(ledger.commit(accept(a_job(number)))) for number in range(9)]
    busy = asyncio.create_task(ledger.commit(gate))
    await asyncio.sleep(0)
    await gate.lift()
    await ledger.close()
    assert len(await asyncio.gather(*jobs, busy)) == 10
    assert query(tmp_path, "SELECT count(*) FROM jobs") == [(9,)]


async def test_closing_leaves_nothing_in_the_write_ahead_log(
    ledger: Ledger, tmp_path: Path
) -> None:
    """It holds pages as they once were: with a prompt that was purged since, say."""
    await accepted(ledger)
    assert (tmp_path / f"{FILE}-wal").stat().st_size
    await ledger.close()
    assert not (tmp_path / f"{FILE}-wal").exists()


async def test_nothing_is_committed_after_closing(ledger: Ledger, tmp_path: Path) -> None:
    await accepted(ledger)
    await ledger.close()
    with pytest.raises(LedgerBroken, match="has been closed"):
        await accepted(ledger, 2)
    assert query(tmp_path, "SELECT count(*) FROM jobs") == [(1,)]


async def test_a_listener_that_fails_ends_the_process_and_nobody_waits_for_ever(
    ledger: Ledger, broken: list[LedgerBroken], tmp_path: Path
) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, JobMoved) and event.job.id == "video_2":
            raise RuntimeError("a listener of ours")

    ledger.listen(fail)
    gate = Gate()
    busy = asyncio.create_task(ledger.commit(gate))
    jobs = [asyncio.create_task(accepted(ledger, number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    await gate.lift()
    async with asyncio.timeout(10):
        await asyncio.gather(busy, *jobs)
    assert query(tmp_path, "SELECT count(*) FROM jobs") == [(3,)]
    assert [str(each) for each in broken] == [
        "a committed change could not be shown: RuntimeError('a listener of ours')"
    ]


async def test_nothing_is_committed_before_the_writer_has_been_started(
    tmp_path: Path, anyio_backend: str
) -> None:
    ledger = Ledger.open(tmp_path, BOOT, WINDOWS)
    with pytest.raises(LedgerBroken, match="not been started"):
        await ledger.commit(move(a_job(), State.CANCELLED, {}))
    await ledger.close()
