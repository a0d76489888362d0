"""What one decision, one accept and one status answer cost in a large ledger, beside a nearly empty
one, in the same run.

python -m bench.scale [--jobs N] [--queued N] [--callers N] [--accounts N] [--rounds N]

The large ledger is written past the gateway, for a million transactions take an hour. All accounts
are paused: nothing goes upstream. The small ledger has one account, one caller, one job that waits
and one that is completed, so that the same work is done in both.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from secrets import token_hex

from gateway.app import Gateway
from gateway.clock import read_boot
from gateway.config import AccountSettings, Limits, Polling, Requests, Server, Settings
from gateway.job import Job, State
from gateway.keys import digest, new_key
from gateway.ledger.database import FILE, open_database
from gateway.ledger.transitions import accept
from gateway.policy.dispatch import next_call

AIM = 1.5
"""Times the cost in the small ledger, at most."""

MODELS = ["sora-2", "sora-2-pro"]
YEAR = 365 * 86_400.0


@dataclass
class Stand:
    """A gateway on a ledger, one of its callers, and a job of his in each state asked about."""

    gateway: Gateway
    key: str
    caller: str
    waiting: str
    completed: str
    took: dict[str, list[float]] = field(default_factory=dict)

    async def decide(self) -> None:
        dispatcher = random.choice(self.gateway._dispatchers)
        next_call(dispatcher.view(), dispatcher._rules)

    async def accept(self) -> None:
        job = a_job(self.caller, State.QUEUED, self.gateway.clock.now(), self.gateway.clock.wall())
        await self.gateway.ledger.commit(accept(job))

    async def tell_waiting(self) -> None:
        await self.get(f"/v1/videos/{self.waiting}")

    async def tell_completed(self) -> None:
        await self.get(f"/v1/videos/{self.completed}")

    async def list_all(self) -> None:
        await self.get("/v1/videos?limit=100")

    async def get(self, target: str) -> dict[str, object]:
        """A caller's GET, straight into the application."""
        path, _, query = target.partition("?")
        headers = [(b"authorization", f"Bearer {self.key}".encode()), (b"host", b"gateway")]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
        scope |= {"method": "GET", "path": path, "raw_path": path.encode(), "scheme": "http"}
        scope |= {"query_string": query.encode(), "headers": headers, "root_path": ""}
        scope |= {"client": ("127.0.0.1", 1), "server": ("gateway", 80), "state": {}}
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await self.gateway.app(scope, receive, send)
        if sent[0]["status"] != 200:
            raise RuntimeError(f"{target}: {sent}")
        body: dict[str, object] = json.loads(sent[1]["body"])  # type: ignore[arg-type]
        return body


def a_job(caller: str, state: State, accepted: float, wall: float) -> Job:
    over = state is State.COMPLETED
    return Job(
        id=f"video_{token_hex(16)}",
        caller=caller,
        state=state,
        model=random.choice(MODELS),
        size="1280x720",
        seconds=10,
        prompt="A paper boat sails down a rainy street at dusk. " * 4,
        created_at=wall,
        accepted=accepted,
        account="a0" if over else None,
        upstream_id=f"task_{token_hex(12)}" if over else None,
        progress=100 if over else 0,
        submitted=accepted + 60 if over else None,
        polled=accepted + 300 if over else None,
        finished=accepted + 300 if over else None,
        completed_at=wall + 310 if over else None,
        content_sha256=token_hex(32) if over else None,
        content_bytes=5_000_000 if over else None,
        fingerprint=token_hex(32),
    )


def write(folder: Path, jobs: int, queued: int, callers: int, accounts: int) -> dict[str, str]:
    """Fill a ledger; the first caller's key, and the ids of a waiting and of a completed job of
    his.
    """
    open_database(folder).dispose()
    conn = sqlite3.connect(folder / FILE, isolation_level=None)
    conn.execute("PRAGMA synchronous = OFF")
    conn.execute("BEGIN")
    wall = time.time()
    key = new_key()
    digests = [digest(key), *(token_hex(32) for _ in range(callers - 1))]
    names = [f"caller{n}" for n in range(callers)]
    conn.executemany(
        "INSERT INTO callers VALUES (?, ?, ?)", ((f"caller_{n}", n, wall) for n in names)
    )
    conn.executemany(
        "INSERT INTO keys (id, caller, digest, created_at) VALUES (?, ?, ?, ?)",
        ((f"key_{n}", f"caller_{n}", d, wall) for n, d in zip(names, digests, strict=True)),
    )
    conn.executemany(
        "INSERT INTO accounts (name, opens, submits, failures, refusals, paused) "
        "VALUES (?, 0, 0, 0, 0, 1)",
        ((f"a{n}",) for n in range(accounts)),
    )
    indexes = [
        row
        for row in conn.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'jobs'")
        if row[0].startswith("ix_") and row[1]
    ]
    for name, _ in indexes:  # made anew at the end: ten times faster
        conn.execute(f"DROP INDEX {name}")
    columns = [each.name for each in fields(Job) if each.name not in ("seq", "looks")]
    told: dict[str, str] = {"key": key, "caller": "caller_caller0"}

    def rows() -> Iterator[list[object]]:
        for number in range(jobs):
            state = State.COMPLETED if number < jobs - queued else State.QUEUED
            caller = f"caller_caller{number % callers}"
            ago = YEAR * (jobs - number) / jobs
            job = a_job(caller, state, wall - ago, wall - ago)
            if caller == told["caller"]:
                told[state.value] = job.id
            yield [getattr(job, name) for name in columns]

    marks = ", ".join("?" * len(columns))
    conn.executemany(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", rows())
    for _, sql in indexes:
        conn.execute(sql)
    conn.execute("COMMIT")
    conn.close()
    return told


@asynccontextmanager
async def stand(
    folder: Path, jobs: int, queued: int, callers: int, accounts: int
) -> AsyncIterator[Stand]:
    """A gateway on a ledger of so many."""
    began = time.perf_counter()
    told = write(folder, jobs, queued, callers, accounts)
    print(f"{jobs:,} jobs, {queued:,} queued, {callers:,} callers, {accounts:,} accounts:")
    print(f"  written in {time.perf_counter() - began:.1f} s", end="")
    print(f", {(folder / FILE).stat().st_size / 1e6:.0f} MB", flush=True)
    settings = Settings(
        server=Server(data_dir=folder),
        accounts=[
            AccountSettings(name=f"a{n}", base_url="http://127.0.0.1:9") for n in range(accounts)
        ],
        polling=Polling(),
        requests=Requests(models=MODELS),
        limits=Limits(requests=10**9),
    )
    keys = {account.name: f"sk-{account.name}" for account in settings.accounts}
    began = time.perf_counter()
    gateway = Gateway(settings, keys, read_boot(), print)
    async with gateway.life():
        print(f"  started in {time.perf_counter() - began:.2f} s", flush=True)
        yield Stand(gateway, told["key"], told["caller"], told[State.QUEUED], told[State.COMPLETED])


async def measure(stands: list[Stand], rounds: int) -> None:
    """Each step in turn with each stand, so that the machine's moods meet all alike."""
    steps = ("decide", "accept", "tell_waiting", "tell_completed", "list_all")
    for step in steps:
        for number in range(rounds + 20):
            for each in random.sample(stands, len(stands)):
                began = time.perf_counter()
                await getattr(each, step)()
                took = time.perf_counter() - began
                if number >= 20:
                    each.took.setdefault(step, []).append(took)


def report(small: Stand, large: Stand) -> None:
    print(f"\n{'median, microseconds':24}{'small':>10}{'large':>10}{'ratio':>8}   aim")
    names = {
        "decide": "one decision",
        "accept": "one accept",
        "tell_waiting": "status of a waiting job",
        "tell_completed": "status of a completed one",
        "list_all": "a list of 100",
    }
    for step, name in names.items():
        few, many = (statistics.median(each.took[step]) for each in (small, large))
        aim = "" if step == "list_all" else f"{AIM}"
        print(f"{name:26}{few * 1e6:8.0f}{many * 1e6:10.0f}{many / few:8.2f}   {aim}")


async def run(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        small = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        large = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sizes = (options.jobs, options.queued, options.callers, options.accounts)
        stands = [
            await stack.enter_async_context(stand(small, 2, 1, 1, 1)),
            await stack.enter_async_context(stand(large, *sizes)),
        ]
        await measure(stands, options.rounds)
        report(*stands)
        for each, name in zip(stands, ("small", "large"), strict=True):
            began = time.perf_counter()
            await each.gateway._janitor.round()
            print(f"a round of the janitor, {name}: {time.perf_counter() - began:.2f} s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--callers", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=500)
    asyncio.run(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
