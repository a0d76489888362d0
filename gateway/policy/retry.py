"""How long an account waits after a call that upstream did not serve. It is the account that waits,
never a job that dies.

`jitter` is a number from 0 to 1 that the caller draws: decisions here are replayable.
"""

from dataclasses import replace

from gateway.job import Account, Kind
from gateway.outcome import SANE, Outcome, Verdict

LONGEST_BACKOFF = 300.0
"""Seconds: how far the breaker opens at most; an outage is noticed to be over within that."""

RETRY_AFTER = (1.0, 3600.0)
"""Seconds: what an upstream's Retry-After is clamped to."""


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 (UPSTREAM's advice), doubling on to
    the longest.
    """
    return min(2.0 ** min(failures - 1, 20) * (1 + 0.25 * jitter), LONGEST_BACKOFF)


def react(account: Account, kind: Kind, outcome: Outcome, now: float, jitter: float) -> Account:
    """The account after a call of `kind` came to `outcome`."""
    after = _learn(account, kind, outcome, now, jitter)
    if after.doubt is not None and account.doubt is None:
        after = replace(after, doubt_since=now)
    return after


def resumed(account: Account) -> Account:
    """The account once an operator wants it to try at once. A doubt stays: only a GET clears it."""
    opens = account.not_before
    return replace(account, paused=False, opens=opens, submits=0.0, failures=0, refusals=0)


def _learn(account: Account, kind: Kind, outcome: Outcome, now: float, jitter: float) -> Account:
    match outcome.verdict:
        case Verdict.RATE_LIMITED:
            if outcome.retry_after is None:
                wait = 60 * (1 + 0.5 * jitter)
            else:
                wait = min(max(outcome.retry_after, RETRY_AFTER[0]), RETRY_AFTER[1])
            trouble = (
                "upstream answered 429: somebody else uses this key, or the limits are set too high"
            )
            return replace(account, opens=max(account.opens, now + wait), trouble=trouble)
        case Verdict.DENIED if kind is Kind.DOWNLOAD:
            return _withheld(account, outcome)
        case Verdict.DENIED:
            return _denied(account, kind, outcome, now, jitter)
        case Verdict.EXHAUSTED:
            return _exhausted(account, outcome, now)
        case Verdict.UNKNOWN:
            return _unknown(account, outcome, now, jitter)
        case Verdict.UNSENT | Verdict.CUT_OFF | Verdict.UNAVAILABLE:
            return _unserved(account, outcome, now, jitter)
        case Verdict.INTERRUPTED:
            return account
        case _:
            return _served(account, outcome)


def _denied(account: Account, kind: Kind, outcome: Outcome, now: float, jitter: float) -> Account:
    """The key, its balance or its quota: no submit until a GET is sane, and no sooner than a
    growing pause.

    Denied submits leave polls and downloads going: an empty balance must not cost what is paid for.
    """
    why = f"upstream denies this key: {outcome.message or 'no reason given'}"
    account = replace(account, doubt=why, trouble=why)
    if now < (account.submits if kind is Kind.SUBMIT else account.opens):
        return account  # calls that were denied together are one denial
    if kind is Kind.SUBMIT:
        refusals = account.refusals + 1
        return replace(account, refusals=refusals, submits=now + _pause(refusals, jitter))
    failures = account.failures + 1
    return replace(account, failures=failures, opens=now + _pause(failures, jitter))


def _withheld(account: Account, outcome: Outcome) -> Account:
    """A denied download. It may tell of the key or of that content alone, for ever: the next GET
    shows, and no other call waits for it.
    """
    why = f"upstream denies a content: {outcome.message or 'no reason given'}"
    return replace(account, doubt=account.doubt or why, trouble=account.trouble or why)


def _exhausted(account: Account, outcome: Outcome, now: float) -> Account:
    """A task failed for quota or balance: as a denied submit, with the longest pause at once, for
    each try makes tasks of jobs that may come back a few times only.
    """
    why = f"upstream's quota or balance is used up: {outcome.message or 'no reason given'}"
    refusals = account.refusals if now < account.submits else account.refusals + 1
    submits = max(account.submits, now + LONGEST_BACKOFF)
    return replace(account, failures=0, refusals=refusals, submits=submits, doubt=why, trouble=why)


def _pause(denials: int, jitter: float) -> float:
    return min(30 * backoff(denials, jitter), LONGEST_BACKOFF)


def _unknown(account: Account, outcome: Outcome, now: float, jitter: float) -> Account:
    """A submit of which nobody knows what became: each costs a job. The first makes the account
    doubtful; where others follow though GETs are sane, submits pause as if they had been denied.
    """
    refusals = account.refusals + 1
    submits = account.submits
    if refusals > 1:
        submits = max(submits, now + _pause(refusals - 1, jitter))
    after = _unserved(account, outcome, now, jitter)
    doubt = "a submit has an unknown outcome: upstream must first answer a GET sanely"
    return replace(after, refusals=refusals, submits=submits, doubt=doubt)


def _unserved(account: Account, outcome: Outcome, now: float, jitter: float) -> Account:
    why = f"upstream does not serve: {outcome.message or outcome.verdict}"
    if now < account.opens:  # calls that failed together are one failure
        return replace(account, trouble=why)
    failures = account.failures + 1
    return replace(account, failures=failures, opens=now + backoff(failures, jitter), trouble=why)


def _served(account: Account, outcome: Outcome) -> Account:
    sane = outcome.verdict in SANE
    accepted = outcome.verdict is Verdict.ACCEPTED
    doubt = None if sane else account.doubt
    refusals = 0 if accepted else account.refusals
    trouble = account.trouble if doubt is not None or refusals else None
    return replace(account, failures=0, doubt=doubt, refusals=refusals, trouble=trouble)
