"""One seed: what is planned, and the lives of the gateway that it makes.

A life begins with a start on what the one before left on its disk, and ends with a crash at any
step, a power cut, or an orderly stop. World time runs through all of them.
"""

import asyncio
import gc
import math
import os
import random
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from gateway.app import Gateway
from gateway.config import AccountSettings, Auth, Content, Polling, Requests, Server, Settings
from gateway.errors import StartError
from gateway.keys import digest, new_key
from gateway.ledger.callers import add_key
from gateway.ledger.database import FILE
from gateway.ledger.ledger import Ledger, commit_beside
from gateway.upstream.client import Upstream

from .accounts import MODELS, plan_accounts
from .callers import Callers, Wish
from .loop import Crash, VirtualLoop
from .machine import ForgetfulDisk, Machine, MachineClock, QuietDoor, limit_ledger
from .network import Network
from .operator import OWNER, Operator
from .oracles import judge
from .upstream import MAX_WAIT, TASK_LIFE, TRUSTED, Visit

BEGINS = 1_800_000_000.0
"""World time at the start, in Unix seconds."""

DRAIN = 16 * 3600.0
"""Seconds after the last fault within which every job must be over."""


@dataclass
class Verdict:
    """What a seed came to. `digest` is the same whenever it is run again."""

    seed: int
    hours: float
    digest: str = ""
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    """How often each fault was met, by kind of call, and what the operator did."""


class World:
    """One seed's. `folder` takes a folder for each life. `log`: told of what happens."""

    def __init__(
        self,
        seed: int,
        hours: float,
        folder: Path,
        ledger: Path,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.seed = seed
        self._log = log
        self._folder = folder
        self.chance = chance = Random(f"{seed}")
        secrets._sysrand = Random(f"ids {seed}")  # type: ignore[attr-defined]
        random.seed(f"jitter {seed}")
        self._ends = BEGINS + hours * 3600
        self._skew = 0.0
        self._loop: VirtualLoop | None = None
        self._last = BEGINS
        self._graveyard: list[Any] = []
        self.crashes: list[float] = []
        self.stops: list[tuple[float, float]] = []
        self.power_cuts = self.pauses = 0
        self.machine = Machine(self.now)
        self.machine.boot()
        self.visits: list[Visit] = []
        self.accounts = plan_accounts(seed, hours, self.now, self.visits, self._call_began)
        self._crash_at: str | None = None
        self._full_since = math.inf
        """Since when the ledger can commit nothing; a little after it can again, infinity."""
        self._submit_began = asyncio.Event()
        self._slowest_disk = chance.choice((0.05, 0.05, 3.0))
        self.leaks: list[str] = []
        key = new_key()
        wishes = list(self._wishes(hours))
        self.callers = Callers(Random(f"callers {seed}"), self.now, wishes, key)
        self._disk: ForgetfulDisk | None = None
        self._root = folder / "life-0"
        self._root.mkdir(parents=True)
        shutil.copy(ledger, self._root / FILE)
        added = add_key(OWNER, "key_1", digest(key), BEGINS)
        commit_beside(self._root, added, BEGINS)
        self.operator = Operator(
            Random(f"operator {seed}"), self.now, self.machine.read_boot, self._ends,
            self.accounts, self.visits, self.callers, lambda what: log(f"{self._hour()} {what}"),
        )  # fmt: skip
        self.lives = 0

    def now(self) -> float:
        """True seconds, that go on while the machine sleeps or is off."""
        return self._last if self._loop is None else self._loop.time() + self._skew

    def run(self) -> Verdict:
        """All lives, then the judgement."""
        gc.disable()  # nothing of a life that crashed may run on, not even a `finally`
        while self.now() < self._ends + DRAIN and not self._live():
            pass
        verdict = Verdict(self.seed, (self.now() - BEGINS) / 3600)
        verdict.broken = [line for account in self.accounts for line in account.provider.broken]
        verdict.broken += [*self.leaks, *self.callers.broken, *self.operator.broken, *judge(self)]
        told = self.callers.told
        told.update("".join(self.operator.done).encode())
        for visit in self.visits:
            told.update(repr(visit).encode())
        verdict.digest = sha256(told.digest()).hexdigest()[:16]
        verdict.faults = Counter(
            f"{visit.kind} {visit.fault}" for visit in self.visits if visit.fault and visit.met
        )
        verdict.faults.update({f"operator {a}": n for a, n in self.operator.acts.items()})
        wishes = self.callers.wishes
        verdict.figures = {
            "jobs": sum(wish.id is not None for wish in wishes),
            "completed": sum(wish.status == "completed" for wish in wishes),
            "accounts": len(self.accounts),
            "calls": len(self.visits),
            "faulty": sum(visit.fault is not None for visit in self.visits),
            "crashes": len(self.crashes),
            "power cuts": self.power_cuts,
            "stops": len(self.stops),
            "pauses": self.pauses,
            "by hand": len(self.operator.done),
        }
        return verdict

    def _live(self) -> bool:
        """One life. Whether it was the last: all is over and was looked at again."""
        self.lives += 1
        self._log(f"{self._hour()} life {self.lives} begins")
        loop = VirtualLoop(self.chance, self.now(), self._slowest_disk)
        self._skew = 0.0
        self._loop = loop
        asyncio.set_event_loop(loop)
        gateway: list[Gateway] = []
        done = False
        crashed = False
        try:
            done = loop.run_until_complete(self._lead_a_life(gateway))
        except Crash:
            crashed = True
            self.crashes.append(self.now())
        except StartError as error:  # the process says so in one line, and is started again
            self._log(f"{self._hour()} {error}")
        asyncio.set_event_loop(None)
        self._graveyard += [loop, gateway, asyncio.all_tasks(loop)]
        self._last, self._loop = self.now(), None
        power_cut = crashed and self.chance.random() < 0.4
        if crashed:
            for account in self.accounts:
                account.provider.cut_all(self.chance)
                account.provider.forget_since(self.now() - 5)
            self._log(f"{self._hour()} {'power cut' if power_cut else 'kill -9'}")
        for account in self.accounts:
            account.provider.forget_since(self._full_since)
        if done:
            return True
        self._last += self.chance.choice((0.5, 0.5, 5.0, 30.0, 90.0, 600.0))
        root = self._folder / f"life-{self.lives}"
        assert self._disk is not None
        self._disk.leave(self._root, root, power_cut)
        shutil.rmtree(self._root)
        self._root = root
        if power_cut:
            self.power_cuts += 1
            self.machine.boot()
            self._disk = None
        self.operator.folder = self._root
        self.operator.work_while_none_runs()
        return False

    async def _lead_a_life(self, keep: list[Gateway]) -> bool:
        """Start, go on until something ends it, stop. Whether there is nothing left to do."""
        chance = self.chance
        if chance.random() < 0.2:
            self._loop.fuse = chance.randint(1, 300)  # type: ignore[union-attr]
        fatal = asyncio.Event()
        door = QuietDoor(self._root)
        gateway = self._build(lambda _error: fatal.set(), door)
        keep.append(gateway)
        ready = False  # a start waits for room in the ledger, and room comes by chance later
        limit_ledger(gateway.ledger._engine, lambda: ready and self.machine.faults.full)
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        server = asyncio.create_task(gateway.app(scope, told.get, heard.put))
        await told.put({"type": "lifespan.startup"})
        if (await heard.get())["type"] != "lifespan.startup.complete":
            await server
            raise AssertionError("it did not start")
        self._log(f"{self._hour()} ready")
        ready = True
        work = [asyncio.create_task(each) for each in self.callers.live(gateway.app)]

        def follow(wish: Wish) -> None:
            work.append(asyncio.create_task(self.callers.pursue(gateway.app, wish)))

        self.operator.folder = self._root
        work.append(asyncio.create_task(self.operator.work(follow, door.ring)))
        fate = asyncio.create_task(self._fate())
        over = asyncio.create_task(self._until_over())
        ill = asyncio.create_task(fatal.wait())
        await asyncio.wait((fate, over, ill), return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            if task.done() and (error := task.exception()):
                self.callers.broken.append(f"a caller, or the operator, failed: {error!r}")
        done = over.done()
        if done:
            await self.callers.check(gateway.app)
            self.callers.broken += _miscounted(gateway.ledger)
        for task in (*work, fate, over, ill):
            task.cancel()
        await asyncio.gather(*work, fate, over, ill, return_exceptions=True)
        begins = self.now()
        gateway.stop_calls()
        await told.put({"type": "lifespan.shutdown"})
        await heard.get()
        await server
        self.stops.append((begins, self.now()))
        self._log(f"{self._hour()} stopped")
        return done

    async def _fate(self) -> None:
        """What befalls the machine in this life, until an orderly stop ends it."""
        chance, machine = self.chance, self.machine
        while True:
            await asyncio.sleep(chance.expovariate(1 / 900))
            if self.now() > self._ends:
                self._make_room()
                machine.faults.fails = 0.0
                await asyncio.sleep(DRAIN * 10)
            if machine.faults.full and chance.random() < 0.5:
                self._make_room()
                continue
            match chance.choice(("crash",) * 5 + ("stop", "pause", "clock", "full", "io", "sync")):
                case "crash":
                    self._crash_at = chance.choice(("submit", "poll", "download", "now"))
                    self._call_began("now")
                case "stop":
                    await self._until_a_submit_perhaps()
                    return
                case "pause":
                    self.pauses += 1
                    self._skew += 10 ** chance.uniform(0.5, 3.7)
                case "clock":
                    machine.wall_error += chance.choice((-1, 1)) * 10 ** chance.uniform(0, 6)
                case "full":
                    await self._until_a_submit_perhaps()
                    machine.faults.full = True
                    self._full_since = min(self._full_since, self.now())
                case "io":
                    machine.faults.fails = chance.choice((0.0, 0.0, 0.1, 0.5))
                case "sync":
                    machine.faults.broken_sync = True

    def _make_room(self) -> None:
        """What waited to be written is, within seconds."""
        self.machine.faults.full = False
        asyncio.get_running_loop().call_later(5, self._written)

    def _written(self) -> None:
        if not self.machine.faults.full:
            self._full_since = math.inf

    async def _until_a_submit_perhaps(self) -> None:
        """Half of all orderly stops, and of all times when the disk is full, begin while a POST is
        under way, if there soon is one.
        """
        if self.chance.random() < 0.5:
            self._submit_began = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._submit_began.wait(), 900)

    def _call_began(self, kind: str) -> None:
        """Crash within the next steps, if it was planned for such a call."""
        if kind == "submit":
            self._submit_began.set()
        if kind == self._crash_at and self._loop is not None:
            self._crash_at = None
            self._loop.fuse = self.chance.choice((3, 10, 30, 100, 400))
            self._loop.fuse = self.chance.randint(0, self._loop.fuse)

    async def _until_over(self) -> None:
        """Until every wish is, and the faults are, or it has taken too long."""
        while self.now() < self._ends + DRAIN:
            await asyncio.sleep(600)
            if self.now() > self._ends and all(wish.is_over for wish in self.callers.wishes):
                return

    def _build(self, on_fatal: Callable[[BaseException], None], door: QuietDoor) -> Gateway:
        settings = Settings(
            server=Server(data_dir=self._root),
            auth=Auth(),
            accounts=[account.settings for account in self.accounts],
            polling=Polling(max_wait=MAX_WAIT, task_life=TASK_LIFE),
            content=Content(upstream_ttl=TRUSTED),
            requests=Requests(models=[*MODELS]),
        )
        accounts = {account.name: account for account in self.accounts}

        def make_disk(broken: Callable[[OSError], None]) -> ForgetfulDisk:
            disk = ForgetfulDisk(self.chance, self.machine.faults, broken)
            disk.find(self._root, self._disk)
            self._disk = disk
            return disk

        def make_upstream(account: AccountSettings, *args: Any) -> Upstream:
            network = Network(accounts[account.name], self.chance, self.leaks)
            return Upstream(account, *args, transport=network)

        return Gateway(
            settings,
            {name: account.key for name, account in accounts.items()},
            self.machine.read_boot(),
            on_fatal,
            make_clock=lambda offset: MachineClock(self.machine, offset),
            make_disk=make_disk,
            make_door=lambda _data: door,
            make_upstream=make_upstream,
        )

    def _wishes(self, hours: float) -> Any:
        chance = Random(f"wishes {self.seed}")
        rate = min(40, chance.choice((2, 5, 10, 30)) * len(self.accounts))
        at, number = BEGINS, 0
        while (at := at + chance.expovariate(rate / 3600)) < BEGINS + hours * 3600:
            number += 1
            deletes = chance.random() < 0.15
            after = chance.choice((0.0, 0.02, chance.uniform(0, 600), 250.0, 4000.0))
            yield Wish(
                number,
                f"{chance.choices(('wish', 'pictured'), (4, 1))[0]} {number} of seed {self.seed}",
                at,
                repeats=chance.random() < 0.9,
                model=chance.choices(MODELS, (3, 1))[0],
                resubmit=chance.random() < 0.1,
                delete_after=after if deletes else None,
            )
            if chance.random() < 0.1:
                at -= chance.uniform(0, 600)  # some come together

    def _hour(self) -> str:
        return f"{(self.now() - BEGINS) / 3600:8.4f} h"


def _miscounted(ledger: Ledger) -> Iterator[str]:
    """Whether the figures of jobs tell of others than there are, all being over."""
    rows = ledger._reader.execute("SELECT state, count(*) FROM jobs GROUP BY state")
    there = dict(rows)
    told = {state: number for state, number in ledger.live.counts.items() if number}
    if told != there and not (ledger._writer and ledger._writer.is_working):
        yield f"{told} are counted, and there are {there}"


def run_seed(
    seed: int, hours: float, ledger: Path, log: Callable[[str], None] = lambda _line: None
) -> Verdict:
    """One seed, in a folder of its own in memory where there is one."""
    base = Path("/dev/shm") if os.path.isdir("/dev/shm") else Path("/tmp")
    folder = base / f"video-gateway-simulation-{os.getpid()}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return World(seed, hours, folder, ledger, log).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
