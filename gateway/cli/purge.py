"""`video-gateway purge`: all of a caller's videos and prompts, beside a running server or without
one.
"""

import time
from typing import Annotated

import typer

from gateway.cli.options import CONFIG, Config, load_beside
from gateway.ledger.ledger import commit_beside
from gateway.ledger.transitions import purge as purge_jobs


def purge(
    caller: Annotated[str, typer.Option(help="Whose videos and prompts.")],
    config: Config = CONFIG,
) -> None:
    """Delete all videos of a caller, and their prompts. Their files go within a minute of serving.

    What is under way upstream goes on there, since it is paid for; nobody will see it.
    """
    folder = load_beside(config).server.data_dir
    change = commit_beside(folder, purge_jobs(caller, time.time()), time.time())
    number = len(change.jobs)
    print(f"purged {number} video{'' if number == 1 else 's'} of {caller}")
