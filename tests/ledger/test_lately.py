"""What is usual by the latest videos: how long a slot is idle until it is taken again, and how much
longer those take that had to wait.
"""

from gateway.job import Call, CallEnded, Job, JobMoved, Kind, State
from gateway.ledger.lately import Lately
from gateway.ledger.transitions import Change

from .bench import a_job

HELD = 240.0
SORT = (a_job().model, a_job().seconds)


def moved(lately: Lately, before: State | None, job: Job) -> None:
    lately.take(Change(jobs=(job,), events=(JobMoved(before, job),)))


def freed(lately: Lately, at: float) -> None:
    job = a_job(account="a", state=State.FETCHING, submitted=at - HELD, finished=at)
    moved(lately, State.RUNNING, job)
    lately.learn(job, at + 2.0)


def taken(lately: Lately, at: float, adopted: bool = False) -> None:
    job = a_job(account="a", state=State.RUNNING, accepted=0.0, submitted=at)
    moved(lately, None if adopted else State.SUBMITTING, job)


def idle(lately: Lately) -> float:
    """Seconds between two videos of a slot, beside what they hold it for."""
    return lately.usual_of_account("a", HELD).cycle - HELD


def test_a_slot_is_taken_again_after_what_it_usually_takes() -> None:
    lately = Lately({})
    for at in range(1000, 1600, 50):
        freed(lately, at)
        taken(lately, at + 3.0)
    assert idle(lately) == 3.0


def test_a_pause_does_not_tell_what_is_usual() -> None:
    lately = Lately({})
    for at in range(1000, 1300, 50):
        freed(lately, at)
        taken(lately, at + 1.0)
    for at in range(1300, 1550, 50):  # nothing is sent until 5000
        freed(lately, at)
    for at in range(5):
        taken(lately, 5000.0 + at)
    freed(lately, 5300.0)
    taken(lately, 5301.0)
    assert idle(lately) == 1.0


def test_a_task_that_was_adopted_over_all_slots_does_not_shift_those_after_it() -> None:
    lately = Lately({})
    taken(lately, 1000.0, adopted=True)
    freed(lately, 1050.0)  # of one too many: nobody takes it
    for at in range(1100, 1600, 50):
        freed(lately, at)
        taken(lately, at + 1.0)
    assert idle(lately) == 1.0


def test_a_slot_that_nobody_waited_for_teaches_nothing() -> None:
    lately = Lately({})
    freed(lately, 1000.0)
    job = a_job(account="a", state=State.RUNNING, accepted=1500.0, submitted=1501.0)
    moved(lately, State.SUBMITTING, job)
    assert idle(lately) == 0.0


def learn(
    lately: Lately, count: int, waited: float, held: float, fetch: float, account: str = "a"
) -> None:
    for _ in range(count):
        job = a_job(
            account=account,
            accepted=1000.0,
            submitted=1000.0 + waited,
            finished=1000.0 + waited + held,
        )
        lately.learn(job, 1000.0 + waited + held + fetch)


def test_content_that_was_lost_and_is_fetched_again_is_no_new_video() -> None:
    lately = Lately({})
    learn(lately, 30, waited=0.5, held=20.0, fetch=2.0)
    job = a_job(account="a", state=State.COMPLETED, submitted=0.0, finished=20.0)
    for number in range(30):
        ended = Call(number, "a", Kind.DOWNLOAD, job.id, 8000.0, 8001.0, "broken")
        lately.take(Change(jobs=(job,), calls=(ended,), events=(CallEnded(ended),)))
    assert lately.usual_of_account("a", 20.0).fetch() == 2.0


def test_an_adopted_task_teaches_nothing() -> None:
    """Nobody knows since when upstream has it."""
    lately = Lately({})
    learn(lately, 30, waited=0.5, held=240.0, fetch=2.0)
    learn(lately, 30, waited=0.0, held=1.0, fetch=2.0)
    assert lately.usual_of_account("a", 60.0).cycle == 240.0


def test_each_account_has_its_own_pace() -> None:
    lately = Lately({})
    learn(lately, 40, waited=0.5, held=20.0, fetch=1.0)
    learn(lately, 40, waited=0.5, held=200.0, fetch=30.0, account="slow")
    fast, slow, unknown = (lately.usual_of_account(name, 60.0) for name in ("a", "slow", "new"))
    assert (fast.cycle, fast.fetch()) == (20.0, 1.0)
    assert (slow.cycle, slow.fetch()) == (200.0, 30.0)
    assert unknown.cycle == 60.0


def test_an_account_that_has_made_few_is_told_by_its_upstream() -> None:
    lately = Lately({"a": "https://u", "new": "https://u", "other": "https://other"})
    learn(lately, 40, waited=0.5, held=20.0, fetch=3.0)
    learn(lately, 3, waited=0.5, held=200.0, fetch=3.0, account="other")
    new, other = (lately.usual_of_account(name, 60.0) for name in ("new", "other"))
    assert (new.cycle, new.held, new.fetch()) == (20.0, 20.0, 3.0)
    assert other.cycle == 200.0


def test_those_that_waited_in_line_are_told_apart() -> None:
    lately = Lately({})
    learn(lately, 40, waited=4.75, held=60.0, fetch=1.0)
    learn(lately, 31, waited=5.25, held=90.0, fetch=40.0)
    waited, quiet = (lately.usual_of_sort(*SORT, 60.0, told) for told in (True, False))
    assert (waited.held, waited.fetch()) == (90.0, 40.0)
    assert (quiet.held, quiet.fetch()) == (60.0, 1.0)
    assert lately.usual_of_sort(*SORT, 60.0) == waited  # the latest of all
    assert lately.usual_of_account("a", 60.0) == waited


def test_a_few_that_waited_are_no_rule() -> None:
    lately = Lately({})
    learn(lately, 30, waited=0.5, held=60.0, fetch=1.0)
    learn(lately, 3, waited=30.0, held=90.0, fetch=40.0)
    assert lately.usual_of_sort(*SORT, 60.0, True) == lately.usual_of_sort(*SORT, 60.0)


def test_how_it_was_long_ago_is_forgotten() -> None:
    lately = Lately({})
    learn(lately, 30, waited=30.0, held=90.0, fetch=40.0)
    learn(lately, 117, waited=0.5, held=300.0, fetch=1.0)
    assert lately.usual_of_sort(*SORT, 300.0, True).held == 300.0


def test_what_holds_a_slot_for_long_tells_nothing_of_others() -> None:
    """Of its own account where that has made some like it, else of its upstream."""
    lately = Lately({"a": "place", "b": "place", "c": "elsewhere"})
    for held, seconds in [(60.0, 4), (400.0, 12), (400.0, 12)] * 10:
        sort = {"seconds": seconds, "state": State.FETCHING, "submitted": 1000.0}
        lately.learn(a_job(account="a", finished=1000.0 + held, **sort), 1500.0)
    assert lately.usual_of_account("a", HELD).held == 400.0
    for account, short, long in (("a", 60.0, 400.0), ("b", 60.0, 400.0), ("c", HELD, HELD)):
        assert lately.held(a_job(account=account, seconds=4), HELD) == short
        assert lately.held(a_job(account=account, seconds=12), HELD) == long
