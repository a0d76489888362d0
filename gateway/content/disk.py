"""The disk as the stores of content use it: every write, and what makes it durable.

Stands between the stores and the system, so that the simulation can put a disk in its place that
forgets at a crash what was never fsynced, and so that write faults have one place to come from.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gateway.failpoint import reach


def _ignore(_error: OSError) -> None:
    pass


class Disk:
    """File operations, all of them blocking. Each raises OSError.

    `broken` is told of an fsync that failed, by whichever thread made it: what was written since
    the last one may be lost, and a second fsync would say that all is well.
    """

    def __init__(self, broken: Callable[[OSError], None] = _ignore) -> None:
        self._broken = broken
        self._made: set[Path] = set()

    def write(self, path: Path, data: bytes) -> None:
        """A file that holds `data` and nothing else. Not durable."""
        reach("disk.write")
        path.write_bytes(data)

    def append(self, path: Path, data: bytes | bytearray) -> None:
        """Not durable either."""
        reach("disk.write")
        with path.open("ab") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Make a file's bytes durable, or the names in a folder."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            reach("disk.sync")
            os.fsync(descriptor)
        except OSError as error:
            self._broken(error)
            raise
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """A folder with a durable name. One that is there may have been left by a crash before its
        name was durable, so each process sees to it once.
        """
        if path not in self._made:
            path.mkdir(exist_ok=True)
            self.sync(path.parent)
            self._made.add(path)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, durably. Whatever bore that name is gone."""
        reach("disk.rename")
        self.replace(source, target)
        reach("disk.renamed")
        self.sync(target.parent)

    def replace(self, source: Path, target: Path) -> None:
        """The same, not durable."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Take a file's name away; it may be gone already. Not durable."""
        path.unlink(missing_ok=True)

    def free(self, folder: Path) -> int:
        """Bytes that may still be written."""
        return shutil.disk_usage(folder).free
