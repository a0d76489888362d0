"""What an operator changes by hand, beside a running server or without one: adopt a task, send a
failed job anew, pause an account.

Each is a transition like any other, run by `commit_beside`. A wish that can't be met raises Refused
with one line for people, and writes nothing.
"""

from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import Connection, select, update

from gateway.clock import Boot
from gateway.errors import Refused
from gateway.job import TERMINAL, AccountChanged, Job, JobChanged, JobMoved, State
from gateway.ledger import schema
from gateway.ledger.restart import moment
from gateway.ledger.transitions import (
    Change,
    add_job,
    read_account,
    read_job,
    transition,
    write_account,
)
from gateway.policy.retry import resumed
from gateway.policy.verdicts import MOST_REQUEUES

NOT_REFUSED = (
    "submission_outcome_unknown",
    "upstream_lost_task",
    "generation_timeout",
    "content_expired",
)
"""Failures that say nothing against the request: sent once more, it may well succeed. A job that
ended so keeps its input image for a while; so does one that upstream failed for a passing reason.
"""

INPUT_NEEDED = f"""
    SELECT 1 FROM jobs WHERE input_sha256 = ? AND (
        state NOT IN ({", ".join(f"'{state}'" for state in sorted(TERMINAL))})
        OR (
            state = 'failed' AND deleted_at IS NULL
            AND (requeues > 0 OR error_code IN ({", ".join(f"'{code}'" for code in NOT_REFUSED)}))
        )
    ) LIMIT 1
"""  # noqa: S608 - words of ours
"""Finds a row when a job that may be sent, or sent once more, has the image of this SHA-256."""


@transition
def adopt(
    conn: Connection, job: Job, caller: str, account: str, of: str | None, boot: Boot
) -> Change:
    """A task that runs upstream becomes a job of the caller called so: polled and fetched like any
    other. It takes a slot, over the count if need be; submits wait then.

    `job` holds its id, its upstream id, and what is told of it where no failed job `of` says it. If
    the task fails for a passing reason it is sent anew, like any other: but not where nobody knows
    what was asked for.
    """
    jobs, callers = schema.jobs, schema.callers
    owner = conn.execute(select(callers.c.id).where(callers.c.name == caller)).scalar()
    if owner is None:
        raise Refused(f"there is no caller {caller!r}")
    named = schema.accounts.c.name == account
    if conn.execute(select(schema.accounts).where(named)).first() is None:
        raise Refused(f"the ledger does not know account {account!r}: serve with it once")
    calls = schema.calls
    of_a_job = (jobs.c.account == account) & (jobs.c.upstream_id == job.upstream_id)
    of_a_call = (calls.c.account == account) & (calls.c.upstream_id == job.upstream_id)
    for known in (select(jobs.c.id).where(of_a_job), select(calls.c.job_id).where(of_a_call)):
        if (taken := conn.execute(known).scalar()) is not None:
            raise Refused(f"{job.upstream_id} is, or was, the task of {taken}")
    old = None
    if of is not None:
        old = _failed(conn, of)
        if old.caller != owner:
            raise Refused(f"{of} is not a video of {caller}")
        job = replace(job, model=old.model, size=old.size, seconds=old.seconds, prompt=old.prompt)
        job = replace(job, input_sha256=old.input_sha256, input_type=old.input_type)
    now = moment(conn, boot)
    job = replace(
        job,
        caller=owner,
        state=State.RUNNING,
        account=account,
        created_at=boot.wall,
        accepted=now,
        submitted=now,
        polled=0.0,  # before it was submitted: its first poll is due at once
        requeues=0 if job.prompt and _has_input(conn, job) else MOST_REQUEUES,
    )
    return _insert(conn, job, old)


@transition
def resubmit(
    conn: Connection,
    job_id: str,
    old_id: str,
    boot: Boot,
    models: Collection[str] | None = None,
) -> Change:
    """A new job that asks for what a failed one asked for. One at a time in the place of each.

    `models`: those that an account serves; None: any.
    """
    old = _failed(conn, old_id)
    if models is not None and old.model not in models:
        raise Refused(f"no account serves the model of {old_id} any more: {old.model}")
    if not old.prompt:
        raise Refused(f"the prompt of {old_id} is no longer kept")
    if not _has_input(conn, old):
        raise Refused(f"the input image of {old_id} is no longer kept")
    job = Job(
        id=job_id,
        caller=old.caller,
        state=State.QUEUED,
        model=old.model,
        size=old.size,
        seconds=old.seconds,
        prompt=old.prompt,
        created_at=boot.wall,
        accepted=moment(conn, boot),
        input_sha256=old.input_sha256,
        input_type=old.input_type,
    )
    return _insert(conn, job, old)


@transition
def pause_account(conn: Connection, name: str, paused: bool) -> Change:
    """Hold an account's submits back, or let it try everything at once again."""
    named = schema.accounts.c.name == name
    row = conn.execute(select(schema.accounts).where(named)).mappings().first()
    if row is None:
        raise Refused(f"the ledger does not know account {name!r}: serve with it once")
    before = read_account(row)
    after = replace(before, paused=True) if paused else resumed(before)
    after = write_account(conn, after)
    return Change(accounts=(after,), events=(AccountChanged(before, after),))


def _has_input(conn: Connection, job: Job) -> bool:
    """Whether the input image that a job came with, if it did, is still kept."""
    if job.input_type is None:
        return True
    found = conn.exec_driver_sql(INPUT_NEEDED, (job.input_sha256,)).first()
    return job.input_sha256 is not None and found is not None


def _failed(conn: Connection, job_id: str) -> Job:
    """A failed job in whose place another may be made."""
    row = conn.execute(select(schema.jobs).where(schema.jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise Refused(f"there is no video {job_id}")
    job = read_job(row)
    if job.state is not State.FAILED:
        raise Refused(f"{job_id} has not failed: it is {job.state}")
    if job.deleted_at is not None:
        raise Refused(f"the caller of {job_id} has deleted it")
    if job.replaced_by is not None:
        seen = (schema.jobs.c.id == job.replaced_by) & schema.jobs.c.deleted_at.is_(None)
        other = conn.execute(select(schema.jobs.c.state).where(seen)).scalar()
        if other is not None and State(other) not in (State.FAILED, State.CANCELLED):
            raise Refused(f"{job.replaced_by} stands in for {job_id} already: it is {other}")
    return job


def _insert(conn: Connection, job: Job, old: Job | None) -> Change:
    """A new job, linked with the failed one whose place it takes."""
    job = add_job(conn, replace(job, replaces=old.id if old else None))
    if old is None:
        return Change(jobs=(job,), events=(JobMoved(None, job),))
    same = schema.jobs.c.id == old.id
    conn.execute(update(schema.jobs).where(same).values(replaced_by=job.id))
    old = replace(old, replaced_by=job.id)
    return Change(jobs=(job, old), events=(JobMoved(None, job), JobChanged(old)))
