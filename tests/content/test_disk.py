"""The one place where content is written: a failed fsync is told, whoever asked for it."""

import errno
import os
from pathlib import Path

import pytest

from gateway.content.disk import Disk


@pytest.mark.parametrize("ask", ["sync", "rename", "make_folder"])
def test_a_failed_fsync_is_told_and_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    broken: list[OSError] = []
    disk = Disk(broken.append)
    file = tmp_path / "file"
    disk.write(file, b"x")
    asked = {
        "sync": lambda: disk.sync(file),
        "rename": lambda: disk.rename(file, tmp_path / "other"),
        "make_folder": lambda: disk.make_folder(tmp_path / "folder"),
    }
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error") as raised:
        asked[ask]()
    assert broken == [raised.value]


def test_no_other_failure_ends_the_process(tmp_path: Path) -> None:
    broken: list[OSError] = []
    disk = Disk(broken.append)
    with pytest.raises(FileNotFoundError):
        disk.rename(tmp_path / "none", tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        disk.append(tmp_path / "none" / "file", b"x")
    assert broken == []
