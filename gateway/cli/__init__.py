"""The command line: one module a command. Settings that don't add up end it with a line each and
status 2, an address that can't be listened on with a line and 3: to try again may help.
"""

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from gateway.cli import accounts, jobs, keys
from gateway.cli.backup import backup
from gateway.cli.check import check
from gateway.cli.create import create
from gateway.cli.demo import demo
from gateway.cli.purge import purge
from gateway.cli.sandbox import sandbox
from gateway.cli.serve import serve
from gateway.errors import GatewayError, ListenError, SettingsError

# Pretty tracebacks show local variables, and one of them may be a key.
app = typer.Typer(
    name="video-gateway",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(serve)
app.command()(demo)
app.command()(sandbox)
app.command()(create)
app.command()(check)
app.command()(backup)
app.command()(purge)
app.add_typer(keys.app, name="keys")
app.add_typer(jobs.app, name="jobs")
app.add_typer(accounts.app, name="accounts")


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A gateway between many callers and one paid video API."""
    if version:
        print(metadata.version("video-gateway"))
        raise typer.Exit


def main() -> None:
    """Run a command; what the project refuses on purpose is said in one line each."""
    os.umask(0o077)  # prompts, videos and keys are nobody else's
    try:
        app()
    except SettingsError as error:
        refuse(*error.problems)
    except ListenError as error:
        refuse(str(error), status=3)
    except (GatewayError, ModuleNotFoundError) as error:  # the sandbox has parts of its own
        refuse(str(error))


def refuse(*lines: str, status: int = 2) -> None:
    for line in lines:
        print(f"video-gateway: {line}", file=sys.stderr)
    sys.exit(status)
