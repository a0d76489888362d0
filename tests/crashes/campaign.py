"""Kills of a gateway at work: at each of its failpoints in turn, and at random moments between."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterable
from itertools import cycle, takewhile
from pathlib import Path

from gateway.failpoint import POINTS

from .callers import Crowd, Note
from .oracles import broken_promises
from .processes import Stack, answers, free_port

CALLERS = 6
PATIENCE = 20.0
"""Seconds that a point may take to be reached, with the start, which is slow where much else runs;
then the kill comes at a moment of its own.
"""

FIRST = {
    "recover.settled": "poll.reserved",
    "recover.adopted": "keep.placed",
    "janitor.marked": "delete.marked",
    "janitor.removed": "delete.marked",
}
"""Points that only a start comes to which follows a kill at another one."""

OFTEN = {
    "commit": 40,
    "disk": 10,
    "download.chunk": 10,
    "input": 2,
    "recover": 1,
    "janitor": 1,
    "shutdown": 1,
}
"""How often a point may be passed before the kill, by its name or what that begins with; else 3."""

UNFINISHED = """
    SELECT count(*) FROM jobs WHERE state NOT IN ('completed', 'failed', 'cancelled')
"""

KEPT = """
    SELECT input_sha256 FROM jobs WHERE error_code = 'submission_outcome_unknown'
"""
"""Input images that an operator may still want to send anew."""


class Campaign:
    """One stack, its callers, and what was done to it. `hits`: kills by the point they hit at."""

    def __init__(self, folder: Path, seed: int, environ: dict[str, str] | None = None) -> None:
        self.hits: Counter[str] = Counter()
        self.problems: list[str] = []
        self._stack = Stack(folder, environ)
        self._crowd = Crowd(self._stack.url, seed)
        self._chance = random.Random(seed)
        self._caught: set[str] = set()
        self._spoiling: set[asyncio.Task[None]] = set()

    @property
    def kills(self) -> int:
        return self.hits.total()

    async def run(self, kills: int) -> None:
        """Kill so many times, every point in turn, then see all work to its end."""
        turns = cycle([*POINTS, "anywhere", "anywhere"])
        await self._during(takewhile(lambda _point: self.kills < kills, turns))

    async def visit(self, points: list[str], tries: int = 3) -> None:
        """Kill at each of these points once, or try so often."""
        wanted = (point for point in points for _ in range(tries) if not self.hits[point])
        await self._during(wanted)

    async def _during(self, points: Iterable[str]) -> None:
        await self._stack.open()
        try:
            callers = [asyncio.create_task(self._crowd.work()) for _ in range(CALLERS)]
            for point in points:
                if point in FIRST:
                    await self._kill_at(FIRST[point])
                await self._kill_at(point)
                for caller in filter(asyncio.Task.done, callers):
                    caller.result()  # raises what ended it
            await self._drain(callers)
        finally:
            await self._crowd.close()
            await self._stack.close()

    async def _kill_at(self, point: str) -> None:
        """Start a gateway and let it come to a point, where it dies."""
        if point == "ledger.migrated":
            await self._kill_a_migration(point)
            return
        often = OFTEN.get(point, OFTEN.get(point.partition(".")[0], 3))
        nth = self._chance.randint(1, often)
        await self._stack.start("" if point == "anywhere" else f"{point}=kill@{nth}")
        if point == "anywhere":
            await self._stack.ends(self._chance.uniform(0.1, 1.5))
        elif point.startswith("shutdown"):
            await answers(f"{self._stack.url}/healthz")
            await self._stack.ends(self._chance.uniform(0.0, 0.5))
            await self._stack.signal(signal.SIGTERM)
        elif point.startswith("content"):
            self._spoil(self._completed())
        status = None if point == "anywhere" else await self._stack.ends(PATIENCE)
        await self._stack.kill()
        self._note_death(point if status == -signal.SIGKILL else "anywhere", status)

    async def _kill_a_migration(self, point: str) -> None:
        """A new folder, whose ledger is killed as it is made; the next start makes it."""
        folder = self._stack.folder / f"new-{self.hits[point]}"
        config = self._stack.folder / "new.toml"
        port = free_port()  # no caller may take this one for the other
        self._stack.write_config(config, folder, port)
        await self._stack.start(f"{point}=kill@1", config)
        self._note_death(point, await self._stack.ends(30))
        await self._stack.start("", config)
        if not await answers(f"http://127.0.0.1:{port}/healthz"):
            self.problems.append(f"{folder}: it does not start after a killed migration")
        await self._stack.kill()
        self.hits["anywhere"] += 1

    def _note_death(self, point: str, status: int | None) -> None:
        self.hits[point] += 1
        if status not in (None, -signal.SIGKILL):
            tail = self._stack.log.read_text()[-2000:]
            self.problems.append(f"{point}: it ended by itself, with {status}: {tail}")
        under_way = "SELECT id FROM jobs WHERE state = 'submitting'"
        if (self._stack.data / "ledger.sqlite").exists():
            self._caught |= {row[0] for row in self._stack.read(under_way)}

    def _completed(self) -> list[Note]:
        return [note for note in self._crowd.notes if note.ended == "completed"]

    def _spoil(self, notes: list[Note]) -> None:
        """Flip a bit of a stored video, and ask for it."""
        for note in self._chance.sample(notes, min(3, len(notes))):
            for path in (self._stack.data / "videos").glob(f"*/{note.id}-*.mp4"):
                content = bytearray(path.read_bytes())
                content[self._chance.randrange(len(content))] ^= 1
                path.write_bytes(content)
            asked = asyncio.create_task(self._compare(note))
            self._spoiling.add(asked)
            asked.add_done_callback(self._spoiling.discard)

    async def _compare(self, note: Note) -> None:
        if note.ended == "completed" and await self._crowd.fetch(note) != note.sha256:
            self.problems.append(f"{note}: served otherwise than before")

    async def _drain(self, callers: list[asyncio.Task[None]]) -> None:
        """Let a gateway that nobody kills see everything to its end, and hold it to its word."""
        self._crowd.closing = True
        await self._stack.start()
        async with asyncio.timeout(120):
            await asyncio.gather(*callers, *self._spoiling)
            while self._stack.read(UNFINISHED)[0][0]:  # deleted ones, whose tasks go on
                await asyncio.sleep(0.05)
        await self._stack.signal(signal.SIGTERM)
        if await self._stack.ends(20) != -signal.SIGTERM:
            self.problems.append("it does not end at SIGTERM")
        await self._stack.kill()
        await self._stack.start()
        for note in self._crowd.notes:
            answer = await self._crowd.look(note)
            if answer.status_code != (404 if note.ended == "deleted" else 200):
                self.problems.append(f"{note}: {answer.text}")
            await self._compare(note)
        await self._stack.kill()
        self._check_folder()
        rows = Counter(row[0] for row in self._stack.read("SELECT id FROM jobs"))
        record = await asyncio.to_thread(self._stack.record)
        self.problems += broken_promises(record, self._crowd.notes, self._caught, rows)
        self.unknown = len(self._caught)
        self.jobs = len(self._crowd.notes)
        self.figures = record["figures"]

    def _check_folder(self) -> None:
        """What is on disk is what is promised, and nothing else."""
        stored = {path.name.rpartition("-")[0] for path in self._stack.data.glob("videos/*/*.mp4")}
        if stored != (promised := {note.id for note in self._completed()}):
            self.problems.append(f"kept and not promised, or not kept: {stored ^ promised}")
        kept = {row[0] for row in self._stack.read(KEPT)}
        inputs = {path.name for path in self._stack.data.glob("inputs/*")}
        left = [*self._stack.data.glob("parts/*"), *(inputs - kept)]
        if left:
            self.problems.append(f"left on disk: {left}")
