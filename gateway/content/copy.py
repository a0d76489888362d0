"""Copying content while it is served: a file is whole once it has its name, and never changes."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

INDEX = "cache.db"
"""diskcache's index in the folder
of videos.
"""


def copy_content(data: Path, target: Path, folder: str) -> None:
    """Copy `data/folder` into `target/folder`; what is there already stays. Raises OSError.

    A file that is deleted meanwhile is passed over. On the same file system files are linked, not
    copied.
    """
    source = data / folder
    (target / folder).mkdir(exist_ok=True)
    index = source / INDEX
    if index.exists():
        with (
            closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(target / folder / INDEX)) as copy,
        ):
            live.backup(copy)
    for path in source.rglob("*"):
        if path.is_dir() or path.name.startswith(INDEX) or path.suffix == ".tmp":
            continue
        copied = target / folder / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link_or_copy(path, copied)
        except FileNotFoundError:
            continue


def _link_or_copy(path: Path, copied: Path) -> None:
    try:
        os.link(path, copied)
    except FileExistsError:
        return
    except OSError:  # another file system, or one without links
        shutil.copy2(path, copied)
