"""Broken versions of the gateway: tests of the tests. The simulation must find each of them out.

A mutant is a module's own source with some lines of it changed, put in place while it is imported.
"""

import importlib.abc
import importlib.machinery
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Mutant:
    """In the source of `module`, each text of `changes` stands once, and becomes the other."""

    module: str
    changes: tuple[tuple[str, str], ...]

    def source(self, source: str) -> str:
        """The broken source."""
        for right, wrong in self.changes:
            if source.count(right) != 1:
                raise LookupError(f"{self.module} does not hold once: {right}")
            source = source.replace(right, wrong)
        return source


def _mutant(module: str, *changes: tuple[str, str]) -> Mutant:
    return Mutant(f"gateway.{module}", changes)


MUTANTS = {
    "skip the reservation": _mutant(
        "policy.window",
        (
            "return math.inf if place.ended is None else",
            "return -math.inf if place.ended is None else",
        ),
    ),
    "forget the stamps at restart": _mutant(
        "ledger.restart",
        ("recent = calls.c.touched & (calls.c.ended.is_(None) | ended_lately)",
         "recent = calls.c.touched & calls.c.ended.is_(None)"),
    ),
    "forget the period after another boot": _mutant(
        "ledger.restart", ("start + windows.get(name, 0.0)", "start"),
    ),
    "retry a read timeout": _mutant(
        "upstream.client",
        ("verdict = Verdict.UNKNOWN if body.ended else Verdict.CUT_OFF",
         "verdict = Verdict.CUT_OFF"),
    ),
    "send again what was being sent at a crash": _mutant(
        "engine.recovery",
        ("lost = Verdict.UNKNOWN if call.kind is Kind.SUBMIT else Verdict.INTERRUPTED",
         "lost = Verdict.INTERRUPTED if call.kind is not Kind.SUBMIT else Verdict.CUT_OFF"),
    ),
    "say completed before the fsync": _mutant(
        "content.part", ("        self._disk.sync(self.path)\n", ""),
    ),
    "forget the fsync of a folder": _mutant(
        "content.disk", ("        self.sync(target.parent)\n", ""),
    ),
    "drop the state guard": _mutant(
        "ledger.statements",
        ('jobs.c.state == bindparam("this_state")', 'bindparam("this_state").is_not(None)'),
    ),
    "free a place when the answer begins": _mutant(
        "policy.window",
        ("return math.inf if place.ended is None else later(place.ended, rule.period, rule.guard)",
         "return later(place.reserved, rule.period, rule.guard)"),
    ),
    "forget the guard": _mutant(
        "policy.window",
        ("later(place.ended, rule.period, rule.guard)", "place.ended + rule.period"),
    ),
    "cut a POST at a stop": _mutant(
        "app",
        ("left = max(0.1, self._grace_ends - self.clock.now())", "left = 0.1"),
    ),
    "accept nothing": _mutant(
        "api.videos",
        ("        repeat = _repeat(request)\n        async",
         '        raise RequestError(503, "No.", code="no")\n        async'),
    ),
    "free an image too early": _mutant(
        "ledger.operator",
        ("state NOT IN (", "state IN ('queued') AND state NOT IN ("),
    ),
    "trust the wall clock": _mutant(
        "clock", ("return self.since_boot() + self._offset", "return self.wall()"),
    ),
    "trust any answer": _mutant(
        "upstream.dialects",
        ('        return Outcome(Verdict.UNKNOWN, f"{answer.status} without an id")',
         '        return Outcome(Verdict.UNAVAILABLE, f"{answer.status} without an id")'),
    ),
    "submit in doubt": _mutant(
        "policy.dispatch", ("trusted = view.account.doubt is None and not", "trusted = not"),
    ),
    "give a ghost's slot back at once": _mutant(
        "policy.verdicts", ("return now + rule.max_wait if unknown else None", "return None"),
    ),
    "follow any redirect": _mutant(
        "upstream.client",
        ('return url.scheme == "https" and url.host in self._content_hosts and not ours',
         "return True"),
    ),
    "store what came": _mutant(
        "upstream.client",
        ("            if total is not None and sink.offset != total:",
         "            if False and total is not None:"),
    ),
    "let an outage end a job": _mutant(
        "policy.verdicts",
        ("ttl if outcome.verdict is Verdict.ABSENT else ttl + LONGEST_OUTAGE", "ttl"),
    ),
    "poll when it pleases": _mutant(
        "policy.polling", ("rule.interval * (2 if overdue else 1)", "rule.interval / 2"),
    ),
    "submit over a paused account": _mutant(
        "policy.dispatch",
        ("view.account.doubt is None and not view.account.paused\n    return trusted",
         "view.account.doubt is None\n    return trusted"),
    ),
    "give a job to whichever account": _mutant(
        "ledger.line",
        ("for model in models if self._due.get(model)]",
         "for model in self._due if self._due[model]]"),
    ),
    "ask another account for a task": _mutant(
        "ledger.live",
        ("            self.books[job.account].tasks[job.id] = job",
         "            self.books[max(self.books)].tasks[job.id] = job"),
        ("self.books[job.account].tasks.pop(job.id, None)",
         "self.books[max(self.books)].tasks.pop(job.id, None)"),
    ),
    "count all accounts' calls as one's": _mutant(
        "engine.dispatcher",
        ("book = live.books[self._name]", "book = live.books[min(live.books)]"),
    ),
    "adopt a task twice": _mutant(
        "ledger.operator",
        ("(select(jobs.c.id).where(of_a_job), select(calls.c.job_id).where(of_a_call))", "()"),
    ),
    "send anew what has not failed": _mutant(
        "ledger.operator", ("if job.state is not State.FAILED:", "if False:"),
    ),
    "forget a call whose end the ledger has no room for": _mutant(
        "engine.calls",
        ("await self._clock.sleep(1)", "return"),
    ),
}  # fmt: skip
"""What a tired evening might make of it, by name."""

SEEDS = Path(__file__).with_name("seeds.json")
"""For each broken version a seed that finds it, so that a test need not look for long.
`python -m tests.simulation.hunt` writes it.
"""


def put_in_place(mutant: Mutant) -> None:
    """Break the gateway. To be called before any of it is imported."""
    if any(name.split(".")[0] == "gateway" for name in sys.modules):
        raise RuntimeError("the gateway has been imported already")
    sys.meta_path.insert(0, _Breaker(mutant))


class _Breaker(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(self._mutant, name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutant: Mutant, name: str, path: str) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        """Always from the source: a compiled one would be the right one."""
        source = self.get_data(self.path).decode()
        return compile(self._mutant.source(source), self.path, "exec")
