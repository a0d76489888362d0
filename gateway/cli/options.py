"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Option("--config", help="The settings file.", envvar="VIDEO_GATEWAY_CONFIG")
]
CONFIG = Path("config.toml")
