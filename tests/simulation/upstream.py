"""The simulated provider of one account: its limits, its tasks, and what reached it.

Imports nothing of the gateway. Counts its window by arrival or by end of answer, and notes each
call that does not fit: there must be none. All accounts' calls stand in one append-only record.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stage import mp4

LATEST_NOTE = 0.9
"""Seconds: how late upstream notes the end of a call. The gateway's `guard` is 1."""

MAX_WAIT = 600.0
TASK_LIFE = 3600.0
TRUSTED = 3600.0
"""Seconds: for how long a gateway may rely on a finished video to be kept."""


@dataclass
class Task:
    """One video. It takes a slot from `created` until `ends`."""

    id: str
    prompt: str
    created: float
    ends: float
    fate: str
    """completed, policy, parameters, overload, quota, lost or stuck."""
    style: str
    """How progress is told: exact, noisy, jumps or none."""
    content: bytes
    expires: float
    told: float = -1.0
    """When somebody was first told that it is over."""
    seen_over: bool = False
    """Whether that was heard, too."""
    known: bool = False
    """Whether its id was ever heard."""
    hidden: int = 0
    """How often it was said not to be there although it is."""


@dataclass
class Visit:
    """One call, from the first byte sent. Times are the world's seconds."""

    number: int
    account: str
    kind: str
    task: str | None
    sent: float
    fault: str | None
    arrived: float | None = None
    ended: float | None = None
    whole: bool = False
    """Whether its answer arrived to its last byte."""
    status: int | None = None
    prompt: str | None = None
    proves_refusal: bool = False
    """Whether what was answered proves that no task exists."""
    sane: bool = False
    """A poll that upstream itself answered, and sensibly."""
    created: str | None = None
    noted: float | None = None
    """When an upstream that counts ends counted it: a little later than the caller sees it."""
    met: bool = True
    """Whether its fault had any effect."""
    unwritten: bool = False
    """Whether the caller may have lost what it was answered."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Provider:
    """`by`: whether its window counts a call when it arrives or when its answer has ended."""

    name: str
    chance: Random
    now: Callable[[], float]
    requests: int
    period: float
    concurrent: int
    by: str
    models: frozenset[str]
    interval: float
    """Least seconds between two polls of one video."""
    visits: list[Visit]
    """The record of all accounts."""
    began: Callable[[str], None]
    """Told the kind of each call as it begins."""
    ids: str = "task"
    """What the ids of its tasks begin with: perhaps as another account's do."""
    fast: bool = False
    """Whether videos take a minute instead of minutes."""
    tasks: dict[str, Task] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Limits that were broken, in words."""

    def visit(self, kind: str, task: str | None, fault: str | None) -> Visit:
        """Somebody begins to call."""
        visit = Visit(len(self.visits) + 1, self.name, kind, task, self.now(), fault)
        self.visits.append(visit)
        self.began(kind)
        return visit

    def arrive(self, visit: Visit) -> None:
        """The call is here, whole or in part."""
        visit.arrived = self.now()

    def end(self, visit: Visit, whole: bool) -> None:
        """Its answer has been sent, or its connection has ended."""
        if visit.ended is not None or visit.arrived is None:
            return
        visit.ended, visit.whole = self.now(), whole
        visit.noted = visit.ended + self.chance.uniform(0.0, LATEST_NOTE)
        if not whole:
            self.disown(visit)

    def disown(self, visit: Visit) -> None:
        """Nobody may know of the task that it made: it gives its slot back without being asked."""
        if visit.created is not None:
            task = self.tasks[visit.created]
            task.ends = min(task.ends, task.created + MAX_WAIT - 30)

    def cut_all(self, chance: Random) -> None:
        """The caller's process was killed: its connections end, what was on the way may arrive."""
        for visit in self.visits:
            if visit.account != self.name:
                continue
            on_its_way = visit.arrived is None and visit.ended is None
            if on_its_way and visit.prompt and visit.fault is None and chance.random() < 0.5:
                self.arrive(visit)
                self.submit(visit, visit.prompt)
            elif on_its_way:
                visit.ended = self.now()
            self.end(visit, whole=False)

    def forget_since(self, moment: float) -> None:
        """The caller's process is gone, and what it was answered from then on was not written."""
        for visit in self.visits:
            if visit.account == self.name and visit.ended is not None and visit.ended >= moment:
                visit.unwritten = True
                self.disown(visit)

    def submit(self, visit: Visit, prompt: str) -> Answer:
        """Accept a task, unless all slots are taken."""
        now, chance = self.now(), self.chance
        busy = sum(task.created <= now < task.ends for task in self.tasks.values())
        if busy >= self.concurrent:
            self.broken.append(f"call {visit.number}: a task more than {self.concurrent} at {now}")
            return refusal(429, "too many tasks")
        fate = chance.choices(
            ("completed", "policy", "parameters", "overload", "quota", "lost", "stuck"),
            (88, 3, 1, 3, 1, 2, 2),
        )[0]
        lasts = chance.lognormvariate(0, 0.3) * (60 if self.fast else 240)
        lasts = min(lasts, MAX_WAIT * 2) if fate != "stuck" else TASK_LIFE - 60
        most = chance.choices((3_000, 300_000, 2_000_000), (90, 8, 2))[0]
        filling = chance.randbytes(chance.randint(100, most))
        task = Task(
            id=f"{self.ids}_{len(self.tasks) + 1}",
            prompt=prompt,
            created=now,
            ends=now + lasts,
            fate=fate,
            style=chance.choice(("exact", "noisy", "jumps", "none")),
            content=mp4(filling),
            expires=now + lasts + TRUSTED * chance.choice((1.5, 3, 24)),
        )
        self.tasks[task.id] = task
        visit.created = task.id
        return reply({**self._object(task), "status": chance.choice(("submitted", "queued"))})

    def poll(self, task_id: str) -> Answer:
        """The video object; 404 for one that is not known, or no longer."""
        task = self.tasks.get(task_id)
        if task is None or (task.fate == "lost" and self.now() >= task.ends):
            return refusal(404, "no such video", "not_found")
        if self.now() >= task.ends and task.fate != "stuck":
            task.told = task.told if task.told >= 0 else self.now()
        return reply(self._object(task))

    def content(self, task_id: str) -> bytes | None:
        """The MP4; None: it is not there."""
        task = self.tasks.get(task_id)
        now = self.now()
        if task is None or task.fate != "completed" or not task.ends <= now < task.expires:
            return None
        return task.content

    def _object(self, task: Task) -> dict[str, Any]:
        now = self.now()
        object_ = {"id": task.id, "object": "video", "status": "in_progress", "progress": 0}
        if now < task.created + 5:
            return object_ | {"status": "submitted"}
        if now >= task.ends and task.fate == "completed":
            return object_ | {"status": "completed", "progress": 100}
        if now >= task.ends and task.fate in FAILURES:
            code, message = FAILURES[task.fate]
            return object_ | {"status": "failed", "error": {"code": code, "message": message}}
        done = min(99, int(100 * (now - task.created) / (task.ends - task.created)))
        match task.style:
            case "noisy":
                done += self.chance.randint(-3, 3)
            case "jumps":
                done = done // 50 * 50
            case "none":
                return {name: value for name, value in object_.items() if name != "progress"}
        return object_ | {"progress": done}


FAILURES = {
    "policy": ("content_policy_violation", "This prompt is against the rules."),
    "parameters": ("invalid_parameters", "This size can't be generated."),
    "overload": ("server_overloaded", "The servers are overloaded."),
    "quota": ("quota_exceeded", "The quota of this account is used up."),
}
"""What upstream says of a task that failed."""


def reply(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())


def refusal(status: int, message: str, code: str = "refused") -> Answer:
    return reply({"error": {"message": message, "code": code, "type": "error"}}, status)
