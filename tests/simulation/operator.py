"""The operator, by chance: pauses and resumes accounts, sends failed videos anew, adopts tasks that
nobody could name. Beside a running server, knocking or not, and while none runs.

It knows what an operator can know: what callers were told, and upstream's own list of tasks.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from secrets import token_hex

from gateway.clock import Boot
from gateway.errors import Refused
from gateway.job import Job, State
from gateway.ledger.ledger import commit_beside
from gateway.ledger.operator import NOT_REFUSED, adopt, pause_account, resubmit
from gateway.ledger.transitions import Transition

from .accounts import MODELS, Account
from .callers import Callers, Wish
from .upstream import Task, Visit

OWNER = "alice"

ACTS = ("pause account", "resume account", "resubmit", "adopt", "steal")
"""What it does. To steal is to adopt a task that is somebody's already, or to have a video sent
anew that has not failed.
"""

SEEN_WITHIN = 90.0
"""Seconds after which a running server has seen a change, though nobody knocked."""

IMAGES_KEPT = 2 * 86_400.0
"""Seconds after a failure for which its input image is surely kept."""


@dataclass(eq=False)
class Hold:
    """An account that was paused: no submit of it begins from `begins` on, before `ends`."""

    account: str
    begins: float = math.inf
    ends: float = math.inf

    def take_effect(self, now: float) -> None:
        self.begins = min(self.begins, now)


@dataclass
class Operator:
    """`now`: the world's seconds. `ends`: when it puts all accounts right, and does no more."""

    chance: Random
    now: Callable[[], float]
    read_boot: Callable[[], Boot]
    ends: float
    accounts: Sequence[Account]
    visits: Sequence[Visit]
    callers: Callers
    log: Callable[[str], None]
    folder: Path = field(default_factory=Path)
    holds: list[Hold] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """What it did, in words."""
    acts: Counter[str] = field(default_factory=Counter)
    """How often it did so, or was refused as it should be."""
    broken: list[str] = field(default_factory=list)

    async def work(self, follow: Callable[[Wish], None], knock: Callable[[], None]) -> None:
        """What it does while one server lives. `follow`: told of each new video."""
        for hold in self._open():
            hold.take_effect(self.now())  # the server has read it at its start
        while self.now() < self.ends:
            await asyncio.sleep(self.chance.expovariate(1 / 800))
            if self.now() < self.ends:
                self._act(follow)
                for hold in self._open():
                    asyncio.get_running_loop().call_later(
                        SEEN_WITHIN, lambda hold=hold: hold.take_effect(self.now())
                    )
                if self.chance.random() < 0.8:
                    knock()
        self._resume_all()
        knock()

    def work_while_none_runs(self) -> None:
        """What it does between two servers."""
        if self.now() < self.ends and self.chance.random() < 0.2:
            self._act(lambda _wish: None)

    def _act(self, follow: Callable[[Wish], None]) -> None:
        account = self.chance.choice(self.accounts).name
        match self.chance.choice(ACTS):
            case "pause account" if not any(hold.account == account for hold in self._open()):
                self._commit("pause account", account, pause_account(account, paused=True))
                self.holds.append(Hold(account))
            case "resume account":
                self._resume(account)
            case "resubmit":
                self._resubmit(follow)
            case "adopt":
                self._adopt(follow)
            case "steal" if self.chance.random() < 0.5:
                self._adopt_what_is_known()
            case "steal":
                self._resubmit_what_is_done()

    def _resume_all(self) -> None:
        for account in self.accounts:
            self._resume(account.name)

    def _resume(self, account: str) -> None:
        for hold in self._open():
            if hold.account == account:
                hold.ends = self.now()
        self._commit("resume account", account, pause_account(account, paused=False))

    def _resubmit(self, follow: Callable[[Wish], None]) -> None:
        failed = [wish for wish in self._failed() if self._is_latest(wish)]
        if not failed:
            return
        old, job_id = self.chance.choice(failed), _new_id()
        change = resubmit(job_id, old.id or "", self.read_boot(), MODELS)
        lately = self.now() - (old.over_at or 0.0) < IMAGES_KEPT
        if self._commit("resubmit", old.prompt, change):
            self._follow(follow, old, job_id)
        elif old.code in NOT_REFUSED and lately:
            self.broken.append(f"{old.prompt}: it could not be sent anew")

    def _adopt(self, follow: Callable[[Wish], None]) -> None:
        """A task of a failed video that the gateway could not name, as upstream's list shows it."""
        ghosts = list(self._ghosts())
        if not ghosts:
            return
        old, account, task = self.chance.choice(ghosts)
        job_id = _new_id()
        job = _job(job_id, task)
        change = adopt(job, OWNER, account.name, old.id, self.read_boot())
        if self._commit("adopt", f"{task.id} of {account.name}", change):
            self._follow(follow, old, job_id, (account.name, task.id))
        else:
            self.broken.append(f"{old.prompt}: {task.id} of {account.name} could not be adopted")

    def _adopt_what_is_known(self) -> None:
        """A task that is a video's already: it must be refused."""
        account = self.chance.choice(self.accounts)
        known = [task for task in account.provider.tasks.values() if task.known]
        if known:
            task = self.chance.choice(known)
            change = adopt(_job(_new_id(), task), OWNER, account.name, None, self.read_boot())
            if self._commit("steal", f"{task.id} of {account.name}", change):
                self.broken.append(f"{task.id} of {account.name} was adopted a second time")

    def _resubmit_what_is_done(self) -> None:
        """A video that is completed: it must be refused."""
        done = [wish for wish in self.callers.wishes if wish.status == "completed"]
        if done:
            wish = self.chance.choice(done)
            change = resubmit(_new_id(), wish.id or "", self.read_boot(), MODELS)
            if self._commit("steal", wish.prompt, change):
                self.broken.append(f"{wish.prompt}: completed, and sent anew")

    def _ghosts(self) -> Iterator[tuple[Wish, Account, Task]]:
        accounts = {account.name: account for account in self.accounts}
        for wish in self._failed():
            if wish.code != "submission_outcome_unknown" or not self._is_latest(wish):
                continue
            for visit in self.visits:
                if visit.prompt == wish.prompt and visit.created and visit.sent >= wish.at:
                    account = accounts[visit.account]
                    task = account.provider.tasks[visit.created]
                    if not task.known and task.told < 0:
                        yield wish, account, task

    def _failed(self) -> Iterator[Wish]:
        wishes = self.callers.wishes
        return (wish for wish in wishes if wish.status == "failed" and wish.deleting is None)

    def _is_latest(self, wish: Wish) -> bool:
        """Whether none stands in for it: one failed video after the other, as a person would."""
        return all(each.stands_in_for is not wish for each in self.callers.wishes)

    def _follow(
        self,
        follow: Callable[[Wish], None],
        old: Wish,
        job_id: str,
        adopted: tuple[str, str] | None = None,
    ) -> None:
        new = Wish(len(self.callers.wishes) + 1, old.prompt, self.now(), repeats=True)
        new.model, new.stands_in_for, new.adopted = old.model, old, adopted
        new.asked, new.accepted, new.id = True, self.now(), job_id
        self.callers.wishes.append(new)
        follow(new)

    def _open(self) -> list[Hold]:
        return [hold for hold in self.holds if hold.ends == math.inf]

    def _commit(self, act: str, of: str, change: Transition) -> bool:
        """Whether it was done. Refused, it has changed nothing."""
        why = ""
        try:
            commit_beside(self.folder, change, self.read_boot().wall)
        except Refused as error:
            why = str(error)
        self.done.append(f"{act} {of}: {why or 'done'}")
        self.log(f"operator: {self.done[-1]}")
        self.acts[act] += (act == "steal") == bool(why)
        return not why


def _new_id() -> str:
    return f"video_{token_hex(16)}"


def _job(job_id: str, task: Task) -> Job:
    """What `video-gateway jobs adopt` begins with."""
    return Job(
        id=job_id,
        caller=OWNER,
        state=State.RUNNING,
        model=MODELS[0],
        size="1280x720",
        seconds=10,
        prompt="",
        created_at=0.0,
        accepted=0.0,
        upstream_id=task.id,
    )
