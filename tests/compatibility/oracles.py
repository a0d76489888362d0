"""What the other side knows: upstream's own record, and the gateway's ledger."""

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

from acceptance.stack import Stack, until


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored_sha256(stack: Stack, prompt: str) -> str:
    """The SHA-256 of the picture that came with the one job of a prompt (one of our own)."""
    ((sha256,),) = stack.ledger(f"SELECT input_sha256 FROM jobs WHERE prompt = '{prompt}'")
    return str(sha256)


def upstream_sha256(stack: Stack, prompt: str) -> str:
    """The SHA-256 of the one video that upstream made for a prompt."""
    videos = stack.record()["videos"].values()
    (sha256,) = (video["sha256"] for video in videos if video["prompt"] == prompt)
    return str(sha256)


def submits(stack: Stack) -> Counter[str]:
    """How many videos upstream was asked for, by prompt, once nothing waits to be sent."""
    waiting = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'submitting')"
    asyncio.run(until(lambda: stack.ledger(waiting) == [(0,)]))
    return Counter(stack.record()["figures"]["submits_by_prompt"])
