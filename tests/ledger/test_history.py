"""Which videos teach which."""

import math
from typing import Any

import pytest

from gateway.job import Job, JobMoved, Look, State
from gateway.ledger.history import History
from gateway.policy.habit import unknown

from .bench import a_job


def finished(history: History, seconds: float, **fields: Any) -> None:
    """Thirty videos that took so long each, but for a few percent."""
    for number in range(30):
        took = seconds * (0.97 + number % 7 / 100)
        looks = (Look(0.9 * took, 90), Look(took + 1.0, 100))
        job = a_job(state=State.FETCHING, looks=looks, finished=1000.0 * number, **fields)
        history.take(JobMoved(State.RUNNING, job))


def test_an_adopted_task_teaches_nothing() -> None:
    """Nobody knows since when upstream has it."""
    history = History({})
    finished(history, 20.0, account="one", accepted=500.0, submitted=500.0)
    assert history.habit(a_job(account="one"), 60.0) == unknown(60.0)


def mean(history: History, job: Job) -> float:
    return math.exp(history.habit(job, 60.0).mean)


def test_accounts_of_one_upstream_teach_each_other_and_those_of_others_do_not() -> None:
    upstreams = {"one": "https://fast", "two": "https://fast", "three": "https://slow"}
    history = History(upstreams)
    finished(history, 20.0, account="one")
    finished(history, 200.0, account="three")
    finished(history, 400.0, account="one that left the settings")
    assert mean(history, a_job(account="two")) == pytest.approx(20.0, rel=0.1)
    assert mean(history, a_job(account="three")) == pytest.approx(200.0, rel=0.1)
    assert history.habit(a_job(account="four"), 60.0) == unknown(60.0)
