"""Opening the database file: its PRAGMAs, its migrations, and the faults that must end a start.

A transaction begins IMMEDIATE (a deferred one loses concurrent updates without an error), WAL with
synchronous=FULL (with NORMAL, a simulated power cut lost 20 of 20 acknowledged rows). PRAGMAs are
read back: an error in one can go unseen.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from gateway.errors import LedgerBroken, LedgerError, LedgerFull, StartError
from gateway.failpoint import reach
from gateway.ledger.schema import HEAD

FILE = "ledger.sqlite"
"""The ledger's file in the data folder."""

_PRAGMAS: dict[str, object] = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def open_database(folder: Path) -> Engine:
    """An engine on the ledger in `folder`, migrated to this version. Raises StartError with one
    line.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            poolclass=NullPool,
            connect_args={"timeout": 30},
        )
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
        _migrate(engine)
    except OSError as error:
        raise StartError(f"the data folder {folder} can't be used: {error.strerror}") from error
    except DBAPIError as error:
        raise StartError(f"the ledger {path} can't be used: {error.orig}") from error
    return engine


def refuse_without_ledger(folder: Path) -> None:
    """Raise StartError where `folder` has no ledger: to open one there would begin it."""
    try:
        (folder / FILE).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        where = f"there is no ledger in {folder.absolute()}: `serve` and `keys create` begin one"
        if not folder.is_absolute():
            where += "; a relative data_dir is relative to the folder that the command runs in"
        raise StartError(where) from error
    except OSError as error:
        raise StartError(f"the data folder {folder} can't be used: {error.strerror}") from error


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """A raw connection that can only read: a hundred times cheaper a query than the toolkit's."""
    uri = f"{(folder / FILE).absolute().as_uri()}?mode=ro"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    conn.row_factory = sqlite3.Row
    return conn


def translate(error: Exception) -> LedgerError:
    """The tree's own error for one that ended a transaction: the driver's, or a fault of ours."""
    if not isinstance(error, DBAPIError):
        return LedgerBroken(repr(error))
    code = getattr(error.orig, "sqlite_errorname", "")
    if code.startswith(("SQLITE_FULL", "SQLITE_BUSY")):
        return LedgerFull(str(error.orig))
    return LedgerBroken(f"{code}: {error.orig}")


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for name, wanted in _PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {wanted}")
        (found,) = connection.execute(f"PRAGMA {name}").fetchone()
        if found != wanted:
            raise StartError(f"the ledger's file system does not allow {name} = {wanted}: {found}")


def _migrate(engine: Engine) -> None:
    with engine.begin() as conn:
        found = None
        if inspect(conn).has_table("alembic_version"):
            found = conn.execute(
                select(text("version_num")).select_from(text("alembic_version"))
            ).scalar()
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise StartError(
                f"the ledger was written by a newer version ({found}, this one knows {HEAD})"
            )
        # Alembic costs a tenth of a second to import: only a new or an old ledger pays for it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        reach("ledger.migrated")


def copy_ledger(folder: Path, target: Path) -> None:
    """A copy of the ledger as of one moment, taken while others write. Raises StartError."""
    try:
        with (
            closing(open_for_reading(folder)) as live,
            closing(sqlite3.connect(target / FILE)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        raise StartError(f"the ledger {folder / FILE} can't be copied: {error}") from error
