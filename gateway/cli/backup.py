"""`video-gateway backup`: a whole copy of the data folder, while a server runs on it or not."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import CONFIG, Config, load_beside
from gateway.content.copy import copy_content
from gateway.errors import StartError
from gateway.ledger.database import copy_ledger


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder; serving from it restores all.")],
    config: Config = CONFIG,
) -> None:
    """Copy the data folder. Every job acknowledged and video completed before is in the copy."""
    data = load_beside(config).server.data_dir
    if target.resolve().is_relative_to(data.resolve()):
        raise StartError(f"{target} is in the data folder itself: keep a backup elsewhere")
    try:
        target.mkdir(parents=True)
        try:
            _copy(data, target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)  # half a copy must not be taken for one
            raise
    except OSError as error:
        raise StartError(f"{error.filename or target}: {error.strerror}") from error
    print(target)


def _copy(data: Path, target: Path) -> None:
    # Images first: one may be freed as soon as its job is over, and the ledger's copy is of a
    # moment when the job may have waited still. Videos last: the copy must have all it knows.
    copy_content(data, target, "inputs")
    copy_ledger(data, target)
    copy_content(data, target, "inputs")
    copy_content(data, target, "videos")
