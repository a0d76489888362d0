"""`python -m tests.crashes --kills 1000`: so many kills of real gateways at work, and a verdict.

Prints what was done and every broken promise; exits with 1 if there is any.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gateway.failpoint import POINTS

from .campaign import Campaign


async def run(kills: int, stacks: int, seed: int, folder: Path) -> list[Campaign]:
    """So many kills, shared among stacks that run side by side."""
    campaigns = [Campaign(folder / str(n), seed + n) for n in range(stacks)]
    async with asyncio.TaskGroup() as group:
        for campaign in campaigns:
            group.create_task(campaign.run(-(-kills // stacks)))
    return campaigns


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills, all stacks together")
    parser.add_argument("--stacks", type=int, default=2, help="sandboxes and gateways side by side")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    parser.add_argument("--folder", type=Path, help="a new folder to keep what is left behind in")
    wanted = parser.parse_args()
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="crashes-"))
    began = time.monotonic()
    campaigns = asyncio.run(run(wanted.kills, wanted.stacks, wanted.seed, folder))
    hits = sum((campaign.hits for campaign in campaigns), Counter())
    for point in [*POINTS, "anywhere"]:
        print(f"{hits[point]:5}  {point}")
    problems = [problem for campaign in campaigns for problem in campaign.problems]
    problems += [f"never killed at {point}" for point in POINTS if not hits[point]]
    print(
        f"{hits.total()} kills in {time.monotonic() - began:.0f} s; "
        f"{sum(campaign.jobs for campaign in campaigns)} jobs, of which "
        f"{sum(campaign.unknown for campaign in campaigns)} had a POST under way at a kill; "
        f"{sum(sum(c.figures['submits_by_prompt'].values()) for c in campaigns)} tasks upstream"
    )
    for problem in problems:
        print(problem)
    print(f"{len(problems)} promises broken (seed {wanted.seed})")
    if wanted.folder is None and not problems:
        shutil.rmtree(folder)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
