"""`video-gateway keys create | list | revoke`: callers' keys, beside a running server or without
one.
"""

import re
import sys
import time
from datetime import UTC, datetime
from secrets import token_hex
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.options import CONFIG, Config, load_beside
from gateway.errors import SettingsError
from gateway.keys import digest, new_key
from gateway.ledger.callers import add_key, revoke_keys
from gateway.ledger.ledger import all_keys, commit_beside
from gateway.load import load_settings

app = typer.Typer(help="Callers' keys.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,30}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who the key is for; a name may have several keys.")],
    config: Config = CONFIG,
) -> None:
    """Print a new key, alone, on standard output. It is shown this once."""
    if not _NAME.fullmatch(name):
        raise SettingsError("NAME must be 1 to 30 characters: letters, digits, and _ . @ -")
    folder = load_settings(config).server.data_dir
    key = new_key()
    commit_beside(
        folder, add_key(name, f"key_{token_hex(8)}", digest(key), time.time()), time.time()
    )
    print(key)


@app.command(name="list")
def list_(config: Config = CONFIG) -> None:
    """List the keys: whose, since when, revoked or not. A key itself is kept nowhere."""
    table = Table("id", "caller", "created", "revoked", box=None)
    for key in all_keys(load_beside(config).server.data_dir):
        table.add_row(key.id, key.caller.name, _day(key.created_at), _day(key.revoked_at))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def revoke(
    name_or_id: Annotated[
        str, typer.Argument(help="A key's id, or a caller's name for all of its keys.")
    ],
    config: Config = CONFIG,
) -> None:
    """Revoke keys. Jobs accepted with them finish; nothing can be read with them."""
    folder = load_beside(config).server.data_dir
    change = commit_beside(folder, revoke_keys(name_or_id, time.time()), time.time())
    if not change.keys:
        raise SettingsError(f"there is no key to revoke under {name_or_id!r}")
    for key in change.keys:
        print(f"revoked {key.id} of {key.caller.name}")


def _day(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
