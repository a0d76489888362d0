"""The machine that the gateway runs on: its clocks, and a disk that forgets what was not fsynced.

SQLite's files are taken as they lie: a crash comes between steps of the loop, never inside a
commit, and with `synchronous = FULL` (which the ledger reads back at each opening) what is
committed is durable. While the disk is full nothing is committed.
"""

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from gateway.clock import Boot, Clock
from gateway.content.disk import Disk
from gateway.ledger.knock import Door

PLENTY = 10**12


@dataclass(eq=False)
class _File:
    """What of a file's bytes the platter has."""

    durable: bytes = b""


@dataclass
class Faults:
    """What is wrong with the disk now."""

    full: bool = False
    fails: float = 0.0
    """How often a write or a renaming fails."""
    broken_sync: bool = False
    """The next fsync fails."""


class ForgetfulDisk(Disk):
    """Real files, and beside them what of each would outlast a power cut."""

    def __init__(self, chance: Random, faults: Faults, broken: Callable[[OSError], None]) -> None:
        super().__init__(broken)
        self._chance = chance
        self._faults = faults
        self._live: dict[Path, _File] = {}
        self._names: dict[Path, dict[str, _File]] = {}
        self._root = Path()

    def find(self, root: Path, before: "ForgetfulDisk | None") -> None:
        """Take what lies in `root` at a start as durable, or as far as it was `before`: a process
        that is gone has not made anything durable.
        """
        self._root = root
        if before is not None:
            here = {path: root / path.relative_to(before._root) for path in before._live}
            self._live = {here[path]: file for path, file in before._live.items()}
            self._names = {
                root / folder.relative_to(before._root): names
                for folder, names in before._names.items()
            }
            return
        for path in root.rglob("*"):
            if path.is_file() and not _of_sqlite(path):
                file = _File(path.read_bytes())
                self._live[path] = file
                self._names.setdefault(path.parent, {})[path.name] = file

    def write(self, path: Path, data: bytes) -> None:
        self._fail_perhaps()
        super().write(path, data)
        self._live.setdefault(path, _File())

    def append(self, path: Path, data: bytes | bytearray) -> None:
        self._fail_perhaps()
        super().append(path, data)
        self._live.setdefault(path, _File())

    def sync(self, path: Path) -> None:
        if self._faults.broken_sync:
            self._faults.broken_sync = False
            error = OSError(errno.EIO, os.strerror(errno.EIO))
            self._broken(error)
            raise error
        if path.is_dir():
            self._names[path] = {
                at.name: file for at, file in self._live.items() if at.parent == path
            }
        else:
            self._live[path].durable = path.read_bytes()

    def replace(self, source: Path, target: Path) -> None:
        self._fail_perhaps()
        super().replace(source, target)
        self._live[target] = self._live.pop(source)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._live.pop(path, None)

    def free(self, folder: Path) -> int:
        return 0 if self._faults.full else PLENTY

    def leave(self, root: Path, target: Path, power_cut: bool) -> None:
        """Copy into `target` what a crash leaves of `root`."""
        for path in root.rglob("*"):
            copied = target / path.relative_to(root)
            if path.is_dir():
                copied.mkdir(parents=True, exist_ok=True)
            elif _of_sqlite(path) or not power_cut:
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copied)
        if not power_cut:
            return
        for path, file in self._live.items():
            if (
                self._names.get(path.parent, {}).get(path.name) is file
                or self._chance.random() < 0.5
            ):
                self._put(target / path.relative_to(root), self._remains(path, file))
        for folder, names in self._names.items():
            for name, file in names.items():  # one that was taken away comes back
                if self._live.get(folder / name) is not file and self._chance.random() < 0.5:
                    self._put(target / folder.relative_to(root) / name, file.durable)

    def _remains(self, path: Path, file: _File) -> bytes:
        """The durable bytes, and perhaps some of what came after; pages may be empty."""
        now = path.read_bytes()
        if now == file.durable or not now.startswith(file.durable):
            return file.durable
        more = now[len(file.durable) :]
        kept = more[: self._chance.randint(0, len(more))]
        return file.durable + (kept if self._chance.random() < 0.5 else bytes(len(kept)))

    def _put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _fail_perhaps(self) -> None:
        if self._faults.full or self._chance.random() < self._faults.fails:
            number = errno.ENOSPC if self._faults.full else errno.EIO
            raise OSError(number, os.strerror(number))


def _of_sqlite(path: Path) -> bool:
    return ".sqlite" in path.name or path.name.startswith("cache.db")


@dataclass
class Machine:
    """Its clocks in terms of `world_now`, true seconds that nothing here can bend."""

    world_now: Callable[[], float]
    wall_error: float = 0.0
    boots: int = 0
    booted: float = 0.0
    faults: Faults = field(default_factory=Faults)

    def boot(self) -> None:
        """Start it after a power cut: its seconds begin anew."""
        self.boots += 1
        self.booted = self.world_now()

    def read_boot(self) -> Boot:
        return Boot(f"boot-{self.boots}", self.world_now() - self.booted, self.wall())

    def wall(self) -> float:
        return self.world_now() + self.wall_error


class MachineClock(Clock):
    """The gateway's clock on a simulated machine."""

    def __init__(self, machine: Machine, offset: float) -> None:
        super().__init__(offset)
        self._machine = machine

    def since_boot(self) -> float:
        return self._machine.world_now() - self._machine.booted

    def wall(self) -> float:
        return self._machine.wall()


def limit_ledger(engine: Engine, is_full: Callable[[], bool]) -> None:
    """Let each commit fail while the disk is full, as SQLite does: its log has no room, it rolls
    back.
    """

    def fail(conn: Connection) -> None:
        if is_full():
            conn.exec_driver_sql("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise OperationalError("COMMIT", None, error)

    event.listen(engine, "commit", fail)


class QuietDoor(Door):
    """A door without a socket: who knocks calls `ring`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def knocked(self) -> None:
        await self._rung.wait()
        self._rung.clear()
