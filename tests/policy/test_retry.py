"""How an account fares after a call: it backs off, and no job ever dies of that."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Account, Kind
from gateway.outcome import SANE, Outcome, Verdict
from gateway.policy.retry import LONGEST_BACKOFF, RETRY_AFTER, backoff, react, resumed

WELL = Account("main")
NOW = 1000.0

UNSERVED = [Verdict.UNSENT, Verdict.CUT_OFF, Verdict.UNAVAILABLE, Verdict.UNKNOWN]
SERVED = [
    Verdict.ACCEPTED,
    Verdict.REJECTED,
    Verdict.OBSERVED,
    Verdict.FINISHED,
    Verdict.FAILED,
    Verdict.PASSING,
    Verdict.MISSING,
    Verdict.FETCHED,
    Verdict.ABSENT,
    Verdict.BROKEN,
]

jitters = st.floats(0.0, 1.0)
accounts = st.builds(
    Account,
    name=st.just("main"),
    opens=st.floats(0.0, 5000.0),
    submits=st.floats(0.0, 5000.0),
    failures=st.integers(0, 40),
    refusals=st.integers(0, 40),
    doubt=st.one_of(st.none(), st.just("why")),
    trouble=st.one_of(st.none(), st.just("what")),
)
outcomes = st.builds(
    Outcome,
    verdict=st.sampled_from(Verdict),
    retry_after=st.one_of(st.none(), st.floats(0.0, 1e9)),
)


def test_every_verdict_is_spoken_of_here() -> None:
    others = {Verdict.RATE_LIMITED, Verdict.DENIED, Verdict.EXHAUSTED, Verdict.INTERRUPTED}
    assert {*UNSERVED, *SERVED, *others} == set(Verdict)


@given(account=accounts, kind=st.sampled_from(Kind), outcome=outcomes, jitter=jitters)
def test_whatever_happens_no_pause_is_cut_short(
    account: Account, kind: Kind, outcome: Outcome, jitter: float
) -> None:
    after = react(account, kind, outcome, NOW, jitter)
    if account.opens > NOW:
        assert after.opens >= account.opens
    if account.submits > NOW:
        assert after.submits >= account.submits
    longest = max(LONGEST_BACKOFF, RETRY_AFTER[1])
    assert after.opens <= max(account.opens, NOW + longest)
    assert after.submits <= max(account.submits, NOW + LONGEST_BACKOFF)


@given(account=accounts, kind=st.sampled_from(Kind), outcome=outcomes, jitter=jitters)
def test_doubt_is_cleared_by_a_sane_get_alone(
    account: Account, kind: Kind, outcome: Outcome, jitter: float
) -> None:
    after = react(account, kind, outcome, NOW, jitter)
    if account.doubt is not None:
        assert (after.doubt is None) == (outcome.verdict in SANE)
    elif after.doubt is not None:
        assert outcome.verdict in (Verdict.UNKNOWN, Verdict.DENIED, Verdict.EXHAUSTED)
        assert after.doubt_since == NOW


@given(account=accounts, kind=st.sampled_from(Kind), outcome=outcomes, jitter=jitters)
def test_nothing_but_an_operator_pauses_and_resumes(
    account: Account, kind: Kind, outcome: Outcome, jitter: float
) -> None:
    for paused in (True, False):
        after = react(replace(account, paused=paused), kind, outcome, NOW, jitter)
        assert after.paused is paused


@given(account=accounts)
def test_resume_lets_it_try_at_once_but_clears_no_doubt_and_no_unknown_window(
    account: Account,
) -> None:
    after = resumed(replace(account, paused=True, not_before=NOW + 7, opens=NOW + 300))
    assert after == replace(
        account, opens=NOW + 7, submits=0, failures=0, refusals=0, paused=False, not_before=NOW + 7
    )


def test_a_doubt_is_as_old_as_its_first_cause() -> None:
    first = react(WELL, Kind.SUBMIT, Outcome(Verdict.UNKNOWN), NOW, 0.0)
    second = react(first, Kind.POLL, Outcome(Verdict.DENIED), NOW + 50, 0.0)
    assert (first.doubt_since, second.doubt_since) == (NOW, NOW)


def test_a_task_that_failed_for_want_of_money_holds_submits_alone() -> None:
    after = react(WELL, Kind.POLL, Outcome(Verdict.EXHAUSTED, "no balance"), NOW, 0.0)
    assert after.opens <= NOW
    assert after.submits == NOW + LONGEST_BACKOFF
    assert after.doubt == after.trouble == "upstream's quota or balance is used up: no balance"
    polled = react(after, Kind.POLL, Outcome(Verdict.OBSERVED), NOW + 5, 0.0)
    assert (polled.doubt, polled.submits, polled.trouble) == (None, after.submits, after.trouble)
    accepted = react(polled, Kind.SUBMIT, Outcome(Verdict.ACCEPTED), NOW + 400, 0.0)
    assert accepted.trouble is None


@pytest.mark.parametrize("verdict", [Verdict.UNSENT, Verdict.CUT_OFF, Verdict.UNAVAILABLE])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_was_not_served_closes_the_account_for_a_second(kind: Kind, verdict: Verdict) -> None:
    after = react(WELL, kind, Outcome(verdict, "no route"), NOW, 0.0)
    assert after == replace(
        WELL, opens=NOW + 1, failures=1, trouble="upstream does not serve: no route"
    )


def test_an_unknown_submit_closes_the_account_and_raises_doubt() -> None:
    after = react(WELL, Kind.SUBMIT, Outcome(Verdict.UNKNOWN), NOW, 0.0)
    assert after.opens == NOW + 1
    assert after.doubt is not None


def test_an_unknown_submit_raises_doubt_even_while_the_account_is_closed() -> None:
    closed = replace(WELL, opens=NOW + 2, failures=2)
    after = react(closed, Kind.SUBMIT, Outcome(Verdict.UNKNOWN), NOW, 0.0)
    assert after.doubt is not None
    assert (after.opens, after.failures) == (closed.opens, closed.failures)


def test_an_outage_is_answered_after_1_2_4_seconds_and_then_ever_more_rarely() -> None:
    account, now, waits = WELL, NOW, []
    for _ in range(12):
        account = react(account, Kind.POLL, Outcome(Verdict.UNAVAILABLE), now, 0.0)
        waits.append(account.opens - now)
        now = account.opens
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(waits[9:]) == {LONGEST_BACKOFF}


@given(failures=st.integers(1, 100_000), jitter=jitters)
def test_the_breaker_opens_no_further_than_its_longest(failures: int, jitter: float) -> None:
    assert 1 <= backoff(failures, jitter) <= LONGEST_BACKOFF
    assert backoff(failures, jitter) <= backoff(failures + 1, jitter)


@pytest.mark.parametrize("verdict", UNSERVED)
def test_calls_that_failed_together_are_one_failure(verdict: Verdict) -> None:
    once = react(WELL, Kind.POLL, Outcome(verdict), NOW, 0.0)
    again = react(once, Kind.POLL, Outcome(verdict), NOW + 0.5, 0.0)
    assert (again.opens, again.failures) == (once.opens, once.failures)


@pytest.mark.parametrize("kind", [Kind.SUBMIT, Kind.POLL])
def test_calls_that_were_denied_together_are_one_denial(kind: Kind) -> None:
    once = react(WELL, kind, Outcome(Verdict.DENIED), NOW, 0.0)
    again = react(once, kind, Outcome(Verdict.DENIED), NOW + 0.5, 0.0)
    assert again == once
    assert (once.refusals, once.failures) == ((1, 0) if kind is Kind.SUBMIT else (0, 1))


@pytest.mark.parametrize(
    ("asked", "waits"), [(0.0, 1.0), (17.0, 17.0), (3600.0, 3600.0), (9e9, 3600.0)]
)
def test_the_whole_account_waits_as_long_as_retry_after_says(asked: float, waits: float) -> None:
    outcome = Outcome(Verdict.RATE_LIMITED, retry_after=asked)
    after = react(WELL, Kind.SUBMIT, outcome, NOW, 0.7)
    assert after.opens == NOW + waits
    assert "429" in (after.trouble or "")
    assert after.failures == 0


@given(jitter=jitters)
def test_without_retry_after_it_waits_a_jittered_minute(jitter: float) -> None:
    after = react(WELL, Kind.POLL, Outcome(Verdict.RATE_LIMITED), NOW, jitter)
    assert NOW + 60 <= after.opens <= NOW + 90


def test_a_denied_submit_leaves_polls_and_downloads_going() -> None:
    after = react(WELL, Kind.SUBMIT, Outcome(Verdict.DENIED, "no balance"), NOW, 0.0)
    assert after.opens <= NOW
    assert after.submits == NOW + 30
    assert after.doubt == after.trouble == "upstream denies this key: no balance"


def test_a_denied_poll_pauses_the_whole_account() -> None:
    after = react(WELL, Kind.POLL, Outcome(Verdict.DENIED), NOW, 0.0)
    assert after.opens == NOW + 30
    assert after.doubt is not None


def test_a_denied_download_asks_for_a_poll_and_closes_nothing() -> None:
    """It may tell of that content alone, which may stay denied for ever."""
    withheld = Outcome(Verdict.DENIED, "moderation")
    after = react(WELL, Kind.DOWNLOAD, withheld, NOW, 0.0)
    assert (after.opens, after.submits, after.failures, after.refusals) == (0.0, 0.0, 0, 0)
    assert after.doubt == after.trouble == "upstream denies a content: moderation"
    polled = react(after, Kind.POLL, Outcome(Verdict.OBSERVED), NOW, 0.0)
    assert (polled.doubt, polled.trouble) == (None, None)
    denied = react(WELL, Kind.SUBMIT, Outcome(Verdict.DENIED, "no balance"), NOW, 0.0)
    assert react(denied, Kind.DOWNLOAD, withheld, NOW, 0.0) == denied


def test_unknown_submits_in_a_row_pause_ever_longer_though_polls_are_sane() -> None:
    account, now, waits = WELL, NOW, []
    for _ in range(6):
        account = react(account, Kind.SUBMIT, Outcome(Verdict.UNKNOWN, "502"), now, 0.0)
        now = max(now, account.opens)
        account = react(account, Kind.POLL, Outcome(Verdict.OBSERVED), now, 0.0)
        assert account.doubt is None
        assert account.trouble == "upstream does not serve: 502"
        waits.append(max(account.submits - now, 0.0))
        now = max(now, account.submits)
    assert waits == [0, 29, 59, 119, 239, 299]  # opens after a second
    account = react(account, Kind.SUBMIT, Outcome(Verdict.ACCEPTED), now, 0.0)
    assert (account.trouble, account.refusals) == (None, 0)


def test_denials_pause_ever_longer_and_at_most_for_the_longest() -> None:
    account, now, waits = WELL, NOW, []
    for _ in range(6):
        account = react(account, Kind.SUBMIT, Outcome(Verdict.DENIED), now, 0.0)
        waits.append(account.submits - now)
        now = account.submits
        account = react(account, Kind.POLL, Outcome(Verdict.OBSERVED), now, 0.0)
    assert waits == [30, 60, 120, 240, LONGEST_BACKOFF, LONGEST_BACKOFF]


def test_a_key_that_polls_well_but_is_denied_submits_stays_in_trouble() -> None:
    denied = react(WELL, Kind.SUBMIT, Outcome(Verdict.DENIED, "no balance"), NOW, 0.0)
    polled = react(denied, Kind.POLL, Outcome(Verdict.OBSERVED), NOW + 5, 0.0)
    assert (polled.doubt, polled.trouble) == (None, denied.trouble)
    accepted = react(polled, Kind.SUBMIT, Outcome(Verdict.ACCEPTED), NOW + 40, 0.0)
    assert (accepted.refusals, accepted.trouble) == (0, None)


@pytest.mark.parametrize("verdict", SERVED)
def test_whatever_upstream_served_ends_the_outage(verdict: Verdict) -> None:
    ill = replace(WELL, failures=5, trouble="upstream does not serve")
    after = react(ill, Kind.POLL, Outcome(verdict), NOW, 0.0)
    assert (after.failures, after.trouble) == (0, None)


def test_a_call_cut_by_the_gateways_own_stop_says_nothing_of_upstream() -> None:
    ill = replace(WELL, failures=5, opens=NOW + 9, doubt="why", trouble="what")
    assert react(ill, Kind.POLL, Outcome(Verdict.INTERRUPTED), NOW, 0.5) == ill
