"""The operator's ways: slots of unknown submits belong to calls, jobs come back, accounts pause"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TO_CALLS = """
    UPDATE calls SET
        slot_until = (SELECT slot_until FROM jobs WHERE jobs.id = calls.job_id),
        upstream_id = (SELECT upstream_id FROM jobs WHERE jobs.id = calls.job_id)
    WHERE id IN (SELECT max(id) FROM calls WHERE kind = 'submit' GROUP BY job_id)
"""


def upgrade() -> None:
    op.add_column("accounts", _number("doubt_since", sa.Float()))
    op.add_column("accounts", _number("paused", sa.Boolean()))
    op.add_column("accounts", _number("not_before", sa.Float()))
    op.add_column("accounts", _number("revision", sa.Integer()))
    # What was waited for after a new boot stays waited for.
    op.execute("UPDATE accounts SET not_before = opens")

    op.add_column("boots", sa.Column("seen", sa.Float(), nullable=True))

    op.add_column("calls", sa.Column("slot_until", sa.Float(), nullable=True))
    op.add_column("calls", sa.Column("upstream_id", sa.String(length=200), nullable=True))
    op.execute(_TO_CALLS)
    ids = ["account", "upstream_id"]
    op.create_index("ix_calls_upstream_id", "calls", ids, unique=True)
    op.create_index("ix_calls_job_id", "calls", ["job_id"])
    op.create_index("ix_calls_slot_until", "calls", ["slot_until"])

    op.drop_column("jobs", "slot_until")
    op.add_column("jobs", _number("requeues", sa.Integer()))
    op.add_column("jobs", _number("resends", sa.Integer()))
    op.add_column("jobs", sa.Column("replaces", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("replaced_by", sa.String(length=64), nullable=True))
    op.create_index("ix_jobs_input_sha256", "jobs", ["input_sha256"])


def _number(name: str, kind: Any) -> "sa.Column[Any]":
    return sa.Column(name, kind, server_default="0", nullable=False)
