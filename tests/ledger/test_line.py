"""The queue, held against a plain list that is searched from its front."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.job import Job
from gateway.ledger.line import Line

from .bench import a_job

MODELS = ("sora-2", "sora-2-pro", "sora-3")


def waiting(seq: int, model: str = "sora-2", retry: float = 0.0) -> Job:
    return a_job(seq, seq=seq, model=model, retry=retry)


def test_first_come_first_of_the_models_that_are_served() -> None:
    line = Line()
    for seq, model in ((3, "sora-2"), (1, "sora-3"), (2, "sora-2")):
        line.add(waiting(seq, model))
    assert line.head({"sora-2"}, 0.0) == waiting(2)
    assert line.head({"sora-2", "sora-3"}, 0.0) == waiting(1, "sora-3")
    assert line.head({"sora-2-pro"}, 0.0) is None
    assert line.head(set(), 0.0) is None
    assert line.position(waiting(2)) == 2
    assert line.position(waiting(2), {"sora-2"}) == 1
    assert line.position(waiting(3), {"sora-2"}) == 2
    assert line.first() == waiting(1, "sora-3")


def test_one_that_is_not_due_is_passed_over_in_its_place() -> None:
    line = Line()
    line.add(waiting(1, retry=50.0))
    line.add(waiting(2))
    assert line.head({"sora-2"}, 49.0) == waiting(2)
    assert line.next_due({"sora-2"}) == 50.0
    assert line.next_due({"sora-3"}) == math.inf
    assert line.position(waiting(2)) == 2
    assert line.head({"sora-2"}, 50.0) == waiting(1, retry=50.0)
    assert line.next_due({"sora-2"}) == math.inf


def test_a_claimed_job_is_offered_to_nobody_and_keeps_its_place() -> None:
    line = Line()
    first, second = waiting(1), waiting(2)
    line.add(first)
    line.add(second)
    line.claim(first)
    assert (line.head({"sora-2"}, 0.0), line.claimed, len(line)) == (second, 1, 2)
    assert (line.first(), line.position(second)) == (first, 2)
    other = waiting(3, "sora-3")
    line.add(other)
    assert line.position(other, {"sora-3"}) == 1
    line.release(first)
    assert (line.head({"sora-2"}, 0.0), line.claimed) == (first, 0)


def test_a_claim_ends_when_its_job_leaves() -> None:
    line = Line()
    line.add(waiting(1))
    line.claim(waiting(1))
    line.remove(waiting(1))
    assert (line.claimed, len(line), line.first()) == (0, 0, None)
    line.add(waiting(1))  # it came back before its claim was released
    line.release(waiting(1))
    assert line.head({"sora-2"}, 0.0) == waiting(1)
    line.remove(waiting(1))
    assert line.head({"sora-2"}, 0.0) is None


@pytest.mark.parametrize("claimed", [False, True])
def test_a_job_that_only_changed_stays_as_it_was(claimed: bool) -> None:
    line = Line()
    line.add(waiting(1))
    if claimed:
        line.claim(waiting(1))
    changed = replace(waiting(1), repeats=1)
    line.update(changed)
    assert line.head({"sora-2"}, 0.0) == (None if claimed else changed)
    line.release(changed)
    assert line.head({"sora-2"}, 0.0) == changed


class AgainstAList(RuleBasedStateMachine):
    """The same done to a line and to a list of what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.jobs: dict[int, Job] = {}
        self.claimed: set[int] = set()
        self.now = 0.0
        self.seq = 0

    @rule(model=st.sampled_from(MODELS), after=st.sampled_from([-5.0, 0.0, 1.0, 7.0]))
    def comes(self, model: str, after: float) -> None:
        self.seq += 1
        job = waiting(self.seq, model, max(0.0, self.now + after))
        self.line.add(job)
        self.jobs[job.seq] = job

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), after=st.sampled_from([-5.0, 3.0]))
    def goes_and_perhaps_comes_back(self, data: st.DataObject, after: float) -> None:
        job = self.jobs.pop(data.draw(st.sampled_from(sorted(self.jobs))))
        self.line.remove(job)
        self.claimed.discard(job.seq)
        if after > 0:
            back = replace(job, retry=self.now + after)
            self.line.add(back)
            self.jobs[job.seq] = back

    @rule(models=st.sets(st.sampled_from(MODELS)), seconds=st.sampled_from([0.0, 0.5, 4.0]))
    def time_goes_by_for_some(self, models: set[str], seconds: float) -> None:
        self.now += seconds
        self.check(models)

    @rule(models=st.sets(st.sampled_from(MODELS)))
    def the_head_is_claimed(self, models: set[str]) -> None:
        head = self.line.head(models, self.now)
        if head is not None:
            self.line.claim(head)
            self.claimed.add(head.seq)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def a_claim_ends(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.claimed)))
        self.line.release(self.jobs[seq])
        self.claimed.remove(seq)

    @invariant()
    def all_is_as_in_the_list(self) -> None:
        self.check(set(MODELS))
        assert len(self.line) == len(self.jobs)
        assert self.line.claimed == len(self.claimed)
        for place, seq in enumerate(sorted(self.jobs), 1):
            assert self.line.position(self.jobs[seq]) == place
        assert self.line.first() == (self.jobs[min(self.jobs)] if self.jobs else None)

    def check(self, models: set[str]) -> None:
        free = [job for seq, job in sorted(self.jobs.items()) if seq not in self.claimed]
        asked = [job for job in free if job.model in models]
        due = [job for job in asked if job.retry <= self.now]
        later = [job.retry for job in asked if job.retry > self.now]
        assert self.line.head(models, self.now) == (due[0] if due else None)
        assert self.line.next_due(models) == min(later, default=math.inf)


TestAgainstAList = AgainstAList.TestCase


@given(st.permutations(range(1, 40)))
def test_in_whatever_order_they_come_the_first_accepted_goes_first(seqs: list[int]) -> None:
    line = Line()
    for seq in seqs:
        line.add(waiting(seq))
    gone = []
    while (head := line.head(MODELS, 0.0)) is not None:
        line.remove(head)
        gone.append(head.seq)
    assert gone == sorted(seqs)
