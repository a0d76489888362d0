"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.config import Settings
from gateway.errors import SettingsError
from gateway.ledger.database import refuse_without_ledger
from gateway.load import load_settings

Config = Annotated[
    Path, typer.Option("--config", help="The settings file.", envvar="VIDEO_GATEWAY_CONFIG")
]
CONFIG = Path("config.toml")


def load_beside(config: Path) -> Settings:
    """The settings of a gateway that has a ledger. Every command but those that may begin one reads
    them here: what it says of a ledger that it made itself would be said of nothing.
    """
    settings = load_settings(config)
    refuse_without_ledger(settings.server.data_dir)
    return settings


def no_account(name: str, settings: Settings) -> SettingsError:
    """What is said of an account that the settings don't have."""
    names = ", ".join(account.name for account in settings.accounts)
    wanted = f"there is no account {name!r}" if name else "name one with --account"
    return SettingsError(f"{wanted}; the settings have {names}")
