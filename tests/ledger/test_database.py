"""The file: its tables, its PRAGMAs, its transactions, and what ends a start in one line."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from gateway.errors import LedgerFull, StartError
from gateway.ledger import database
from gateway.ledger.callers import add_caller
from gateway.ledger.database import FILE, open_database, open_for_reading, translate
from gateway.ledger.ledger import Ledger, commit_beside
from gateway.ledger.schema import HEAD, metadata
from gateway.ledger.transitions import accept

from .bench import BOOT, WALL, WINDOWS, a_job, an_empty_ledger, query


def test_the_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    with open_database(tmp_path).connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_newest_migration(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
    an_empty_ledger(tmp_path)
    assert query(tmp_path, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_every_connection_has_its_pragmas_in_force(tmp_path: Path) -> None:
    engine = open_database(tmp_path)
    for _ in range(2):
        with engine.connect() as conn:
            names = ("journal_mode", "synchronous", "foreign_keys")
            found = [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
            assert found == ["wal", 2, 1]


def test_a_file_system_without_a_write_ahead_log_is_refused() -> None:
    in_memory = sqlite3.connect(":memory:")  # SQLite says yes there, and does not do it
    with pytest.raises(StartError, match="does not allow journal_mode = wal: memory"):
        database._configure(in_memory, None)
    in_memory.close()


def test_a_pragma_that_does_not_hold_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database._PRAGMAS, "journal_mode", "misspelt")
    with pytest.raises(StartError, match="journal_mode = misspelt"):
        open_database(tmp_path)


def test_forty_at_once_that_read_and_write_lose_nothing(tmp_path: Path) -> None:
    engine = open_database(tmp_path)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE counter (n INTEGER)"))
        conn.execute(text("INSERT INTO counter VALUES (0)"))
    ready = threading.Barrier(8)

    def count() -> None:
        ready.wait()
        for _ in range(5):
            with engine.begin() as conn:
                n = conn.execute(text("SELECT n FROM counter")).scalar_one()
                conn.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert query(tmp_path, "SELECT n FROM counter") == [(40,)]


def test_a_transaction_holds_the_file_from_its_beginning(tmp_path: Path) -> None:
    other = sqlite3.connect(an_empty_ledger(tmp_path), timeout=0, isolation_level=None)
    with open_database(tmp_path).begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_reader_can_only_read(tmp_path: Path) -> None:
    an_empty_ledger(tmp_path)
    reader = open_for_reading(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM jobs")
    reader.close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = sqlite3.connect(an_empty_ledger(tmp_path), isolation_level=None)
    file.execute("UPDATE alembic_version SET version_num = '9999'")
    file.close()
    with pytest.raises(StartError, match=r"newer version \(9999"):
        open_database(tmp_path)
    assert query(tmp_path, "SELECT version_num FROM alembic_version") == [("9999",)]


def refusal(folder: Path) -> str:
    """Why a server does not start on `folder`."""
    with pytest.raises(StartError) as refused:
        Ledger.open(folder, BOOT, WINDOWS)
    return str(refused.value)


@pytest.mark.parametrize("size", [10, 5000])
def test_a_file_that_is_no_ledger_is_refused_in_one_line(tmp_path: Path, size: int) -> None:
    (tmp_path / FILE).write_bytes(b"garbage! " * size)
    why = refusal(tmp_path)
    assert "file is not a database" in why
    assert "\n" not in why
    assert (tmp_path / FILE).read_bytes() == b"garbage! " * size


def test_a_ledger_damaged_in_its_middle_is_refused_in_one_line(tmp_path: Path) -> None:
    commit_beside(tmp_path, add_caller("alice", WALL), WALL)
    for number in range(30):
        commit_beside(tmp_path, accept(a_job(number, prompt="x" * 900)), WALL)
    path = tmp_path / FILE
    file = sqlite3.connect(path)
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
    (page,) = file.execute("PRAGMA page_size").fetchone()
    file.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * page : root * page] = b"\xff" * page
    path.write_bytes(content)
    why = refusal(tmp_path)
    assert "malformed" in why
    assert "\n" not in why


def test_a_file_where_the_folder_should_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    assert "File exists" in refusal(tmp_path / "data")
    assert "Not a directory" in refusal(tmp_path / "data" / "below")


def test_a_folder_where_the_file_should_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert "unable to open database file" in refusal(tmp_path)


def test_a_command_beside_the_server_hears_of_a_full_disk_in_our_own_words(tmp_path: Path) -> None:
    an_empty_ledger(tmp_path)

    def no_room(conn: object) -> object:
        conn.exec_driver_sql("PRAGMA max_page_count = 1")
        return accept(a_job(prompt="x" * 100_000))(conn)

    commit_beside(tmp_path, add_caller("alice", WALL), WALL)
    with pytest.raises(LedgerFull, match="full"):
        commit_beside(tmp_path, no_room, WALL)


def test_a_fault_of_our_own_does_not_pass_for_a_full_disk() -> None:
    assert "KeyError" in str(translate(KeyError("x")))


@pytest.mark.parametrize("name", ["a#b", "q?mode=rw", "%41", "ä ö"])
async def test_a_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    open_database(folder).dispose()
    with closing(open_for_reading(folder)) as reader:
        assert reader.execute("SELECT count(*) FROM outbox").fetchone()[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_slot_of_an_unknown_submit_moves_from_its_job_to_its_call(tmp_path: Path) -> None:
    """An older ledger is brought to this version with what it holds back."""
    old = create_engine(f"sqlite:///{tmp_path / FILE}")
    with old.begin() as conn:
        config = Config()
        config.set_main_option(
            "script_location", str(Path(database.__file__).parent / "migrations")
        )
        config.attributes["connection"] = conn
        command.upgrade(config, "0002")
        for line in (
            "INSERT INTO accounts VALUES ('main', 7, 0, 0, 0, NULL, NULL)",
            "INSERT INTO callers VALUES ('caller_a', 'a', 0)",
            "INSERT INTO boots VALUES (1, 'boot', 0, 0)",
            "INSERT INTO jobs (id, caller, state, model, size, seconds, prompt, created_at,"
            " accepted, in_progress, progress, misses, retry, slot_until)"
            " VALUES ('video_1', 'caller_a', 'failed', 'm', 's', 1, 'p', 0, 0, 0, 0, 0, 0, 600)",
            *(
                f"INSERT INTO calls (account, kind, job_id, boot, reserved_at, reserved, touched)"
                f" VALUES ('main', '{kind}', 'video_1', 1, 0, 0, 1)"
                for kind in ("submit", "submit", "poll")
            ),
        ):
            conn.execute(text(line))
    old.dispose()
    open_database(tmp_path).dispose()
    slots = query(tmp_path, "SELECT kind, slot_until FROM calls ORDER BY id")
    assert slots == [("submit", None), ("submit", 600.0), ("poll", None)]
    assert query(tmp_path, "SELECT seq, id, state FROM jobs") == [(1, "video_1", "failed")]
    assert query(tmp_path, "SELECT name, opens, not_before, paused FROM accounts") == [
        ("main", 7.0, 7.0, 0)
    ]
