"""`video-gateway accounts list | pause | resume`: how the upstream's accounts fare. Beside a
running server or without one.
"""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.options import CONFIG, Config, load_beside, no_account
from gateway.clock import read_boot
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import pause_account
from gateway.ledger.report import AccountReport, report_accounts
from gateway.policy.dispatch import why_no_submit

app = typer.Typer(help="The upstream's accounts.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="An account's name, as in the settings.")]


@app.command(name="list")
def list_(config: Config = CONFIG) -> None:
    """List the accounts and how each fares."""
    counts = ("running", "to fetch again", "unknown")
    heads = ("account", "paused", *counts, "opens in", "submits in", "trouble", "submits wait for")
    table = Table(*heads, box=None)
    settings = load_beside(config)
    reports = report_accounts(settings.server.data_dir, read_boot())
    concurrent = {account.name: account.concurrent for account in settings.accounts}
    for report in reports:
        table.add_row(*_row(report, concurrent.get(report.account.name)))
    for name in sorted(concurrent.keys() - {report.account.name for report in reports}):
        table.add_row(name, *[""] * 6, "not served yet")
    Console(width=None if sys.stdout.isatty() else 250).print(table)


@app.command()
def pause(name: Name, config: Config = CONFIG) -> None:
    """Send no video over this account. What is under way there goes on and is fetched."""
    _set(name, config, paused=True)
    print(f"paused {name}: no video is sent over it; polls and downloads go on")


@app.command()
def resume(name: Name, config: Config = CONFIG) -> None:
    """Use this account again, and at once if it was backing off."""
    _set(name, config, paused=False)
    print(f"resumed {name}")


def _set(name: str, config: Config, *, paused: bool) -> None:
    settings = load_beside(config)
    if name not in (account.name for account in settings.accounts):
        raise no_account(name, settings)
    commit_beside(settings.server.data_dir, pause_account(name, paused), read_boot().wall)


def _row(report: AccountReport, concurrent: int | None) -> list[str]:
    """`concurrent`: its slots; None: it has left the settings."""
    account = report.account
    waits_for: str | None = "not in the settings"
    if concurrent is not None:
        waits_for = why_no_submit(account, report.to_fetch, concurrent)
    left = max(account.opens, account.submits) - report.now
    nobody_knows = account.paused or (waits_for and left <= 0)
    return [
        account.name,
        "paused" if account.paused else "",
        str(report.running),
        str(report.to_fetch_again),
        str(report.ghosts),
        _seconds(account.opens - report.now),
        "" if nobody_knows else _seconds(left),
        account.trouble or "",
        waits_for or "",
    ]


def _seconds(left: float) -> str:
    return f"{left:.0f} s" if left > 0 else "now"
