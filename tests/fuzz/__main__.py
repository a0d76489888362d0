"""`python -m tests.fuzz --requests 100000 [--seed S]`: prints figures; fails when one is wrong."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from acceptance.stack import Stack

from .line import Answer, exchange
from .requests import MAKERS
from .target import Target

CONNECTIONS = 32


@dataclass
class Tally:
    """What came of it. `slowest`: seconds, of a connection that was answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def requests(self) -> int:
        return sum(self.kinds.values())


async def attack(target: Target, requests: int, seed: int) -> Tally:
    """So many requests, over several connections at once. Each is remade from `seed` and its
    number.
    """
    tally = Tally()
    numbers = iter(range(requests))
    await asyncio.gather(*(_worker(target, numbers, seed, tally) for _ in range(CONNECTIONS)))
    return tally


async def _worker(target: Target, numbers: Iterator[int], seed: int, tally: Tally) -> None:
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(list(MAKERS))
        request = MAKERS[kind](rng, target)
        tally.kinds[kind] += 1
        began = time.monotonic()
        try:
            answers = await exchange(target.port, request)
        except TimeoutError:
            tally.wrong.append(f"{number} ({kind}): neither answered nor closed")
            continue
        except OSError as error:
            tally.wrong.append(f"{number} ({kind}): {error!r}")
            if len(tally.wrong) > 100:
                return
            continue
        if answers:
            tally.slowest = max(tally.slowest, time.monotonic() - began)
        else:
            tally.statuses["closed"] += 1
        for answer in answers:
            tally.statuses[f"{answer.status} {answer.code}".strip()] += 1
            if answer.complaint:
                tally.wrong.append(f"{number} ({kind}): {answer.complaint}")
        await _delete(target, request, answers)


async def _delete(target: Target, request: bytes, answers: list[Answer]) -> None:
    """Most of what was accepted, so that its caller's queue is never full."""
    if not request.startswith(b"POST /v1/videos HTTP/1.1"):
        return
    for answer in answers:
        if answer.status == 200 and b'"object":"video"' in answer.body:
            video = answer.body.partition(b'"id":"')[2].partition(b'"')[0].decode()
            lines = [f"DELETE /v1/videos/{video} HTTP/1.1", "host: x"]
            head = "\r\n".join([*lines, f"authorization: {target.key}", "", ""])
            await exchange(target.port, head.encode())


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Stack(Path(folder)))
        try:
            await target.start()
            began = time.monotonic()
            tally = await attack(target, options.requests, options.seed)
            seconds = time.monotonic() - began
            wrong = [*tally.wrong, *target.complaints()]
            print(f"seed {options.seed}: {tally.requests} requests in {seconds:.0f} s")
            print("  of", dict(sorted(tally.kinds.items())))
            print("  answers", dict(sorted(tally.statuses.items())))
            print(f"  the slowest answer took {tally.slowest:.2f} s")
            print(f"  peak memory of the server {target.memory() / 1e6:.0f} MB")
            print(f"  wrong: {len(wrong)}")
            for line in wrong[:50]:
                print("   ", line)
            return bool(wrong)
        finally:
            target.stack.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
