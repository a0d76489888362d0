"""`video-gateway jobs list | show | adopt | resubmit`: what became of videos, and the ways out when
something went wrong. Beside a running server or without one.
"""

import sys
from datetime import UTC, datetime
from secrets import token_hex
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.options import CONFIG, Config, load_beside, no_account
from gateway.clock import read_boot
from gateway.config import Settings
from gateway.errors import SettingsError
from gateway.job import Job, Look, State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import adopt as adopt_task
from gateway.ledger.operator import resubmit as resubmit_job
from gateway.ledger.report import JobReport, list_jobs, report_job

app = typer.Typer(help="Videos, whoever's they are.", no_args_is_help=True)

LONGEST_ID = 200

_TIMES = ("created_at", "completed_at", "deleted_at", "fetched_at")
"""Fields that are Unix seconds."""

_HIDDEN = ("caller", "prompt", "accepted", "submitted", "polled", "finished", "retry")
"""Fields that are shown otherwise, or are moments of a timeline that tells people nothing."""


@app.command(name="list")
def list_(
    caller: Annotated[str | None, typer.Option(help="Of this caller alone.")] = None,
    state: Annotated[State | None, typer.Option(help="In this state alone.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.", min=1)] = 50,
    config: Config = CONFIG,
) -> None:
    """List videos, the newest first."""
    table = Table("id", "caller", "state", "created", "account", "upstream id", "error", box=None)
    for job, name in list_jobs(load_beside(config).server.data_dir, caller, state, limit):
        created, account = _time(job.created_at), job.account or ""
        stands = f"{job.state}, deleted" if job.deleted_at is not None else job.state
        row = (job.id, name, stands, created, account, job.upstream_id, job.error_code)
        table.add_row(*(each or "" for each in row))
    Console(width=None if sys.stdout.isatty() else 250).print(table)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A video's id.")],
    prompt: Annotated[bool, typer.Option("--prompt", help="Its prompt, too.")] = False,
    config: Config = CONFIG,
) -> None:
    """Show all that is known of a video: its fields, its calls upstream, what happened."""
    report = report_job(load_beside(config).server.data_dir, id_)
    if report is None:
        raise SettingsError(f"there is no video {id_}")
    for line in _lines(report, with_prompt=prompt):
        print(line)


@app.command()
def adopt(
    upstream_id: Annotated[str, typer.Argument(help="What the upstream calls the task.")],
    caller: Annotated[str, typer.Option(help="Whose video it will be.")],
    account: Annotated[
        str, typer.Option(help="Whose task it is; needed if there are several.")
    ] = "",
    of: Annotated[
        str | None, typer.Option(help="The failed video that it was meant to be.")
    ] = None,
    config: Config = CONFIG,
) -> None:
    """Make a task that the upstream works on, or has done, a video of a caller. Prints its id."""
    settings = load_beside(config)
    if not 0 < len(upstream_id) <= LONGEST_ID or not upstream_id.isprintable():
        raise SettingsError(f"UPSTREAM_ID must be 1 to {LONGEST_ID} printable characters")
    allowed = settings.requests
    job = Job(
        id=_new_id(),
        caller=caller,
        state=State.RUNNING,
        model=allowed.models[0],
        size=allowed.sizes[0],
        seconds=allowed.seconds[0],
        prompt="",
        created_at=0.0,
        accepted=0.0,
        upstream_id=upstream_id,
    )
    boot = read_boot()
    change = adopt_task(job, caller, _account(settings, account), of, boot)
    commit_beside(settings.server.data_dir, change, boot.wall)
    print(job.id)


@app.command()
def resubmit(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A failed video's id.")],
    config: Config = CONFIG,
) -> None:
    """Send a failed video anew, as a new one of the same caller. Prints its id.

    If the first submit was accepted after all, both are billed.
    """
    boot, job_id = read_boot(), _new_id()
    settings = load_beside(config)
    change = resubmit_job(job_id, id_, boot, settings.requests.models)
    commit_beside(settings.server.data_dir, change, boot.wall)
    print(job_id)


def _new_id() -> str:
    return f"video_{token_hex(16)}"


def _account(settings: Settings, name: str) -> str:
    """The account that is meant. Raises SettingsError."""
    names = [account.name for account in settings.accounts]
    if not name and len(names) == 1:
        return names[0]
    if name not in names:
        raise no_account(name, settings)
    return name


def _lines(report: JobReport, *, with_prompt: bool) -> list[str]:
    job = report.job
    fields: list[tuple[str, object]] = [
        (name, getattr(job, name)) for name in Job.__dataclass_fields__ if name not in _HIDDEN
    ]
    fields.insert(1, ("caller", report.caller))
    if with_prompt:
        fields.append(("prompt", job.prompt))
    shown = [
        f"{name:15} {_shown(name, value)}" for name, value in fields if value not in (None, ())
    ]
    calls = [
        f"  {_time(call.reserved_at)}  {call.kind:8} {call.account}  "
        f"{call.outcome or 'under way'}"
        + ("" if call.took is None else f"  {call.took:.1f} s")
        + ("" if call.slot_until is None else "  keeps a slot")
        for call in report.calls
    ]
    events = [f"  {_time(at)}  {what}" for at, what in report.events]
    return [*shown, "calls upstream", *calls, "events", *events]


def _shown(name: str, value: object) -> object:
    """A field in words."""
    if name in _TIMES:
        return _time(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(_look(look) for look in value)
    return value


def _look(look: Look) -> str:
    progress = "nothing told" if look.progress is None else f"{look.progress} %"
    return f"{progress} at {look.elapsed:.0f} s"


def _time(at: object) -> str:
    if not isinstance(at, int | float):
        return ""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
