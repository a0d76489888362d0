"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.config import Settings
from gateway.errors import SettingsError

Config = Annotated[
    Path, typer.Option("--config", help="The settings file.", envvar="VIDEO_GATEWAY_CONFIG")
]
CONFIG = Path("config.toml")


def no_account(name: str, settings: Settings) -> SettingsError:
    """What is said of an account that the settings don't have."""
    names = ", ".join(account.name for account in settings.accounts)
    wanted = f"there is no account {name!r}" if name else "name one with --account"
    return SettingsError(f"{wanted}; the settings have {names}")
