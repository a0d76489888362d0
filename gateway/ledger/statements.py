"""The statements of an accepted job and of a call upstream, built once: to build one anew costs
several times what it costs to run it.

All values come with the execution. What a row is found by is named `this_...`; every other value is
a column to be written, so that an UPDATE sets the columns that it is given and no others.
"""

from sqlalchemy import bindparam, insert, select, update

from gateway.ledger.schema import accounts, calls, jobs, outbox

ADD_JOB = insert(jobs)

DELETED_AT = select(jobs.c.deleted_at).where(jobs.c.id == bindparam("this_id"))

CHANGE_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("this_id"), jobs.c.state == bindparam("this_state"))
    .returning(jobs)
)
"""Finds no row when the job is in another state."""

ADD_CALL = insert(calls)

END_CALL = update(calls).where(calls.c.id == bindparam("this_id"), calls.c.ended.is_(None))
"""Finds no row when the call has ended already."""

FIND_ACCOUNT = select(accounts).where(accounts.c.name == bindparam("this_name"))

CHANGE_ACCOUNT = update(accounts).where(accounts.c.name == bindparam("this_name"))

ADD_EVENTS = insert(outbox)
