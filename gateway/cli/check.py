"""`video-gateway check`: read the settings as `serve` would, and say what is wrong."""

from gateway.cli.options import CONFIG, Config
from gateway.load import load_settings, upstream_keys


def check(config: Config = CONFIG) -> None:
    """Read the settings and say what is wrong, one line each."""
    settings = load_settings(config)
    upstream_keys(settings)
    print(f"{config}: fine, {len(settings.accounts)} account(s)")
