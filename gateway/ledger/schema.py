"""The tables. Columns bear the names of the fields in `job.py`, so that a row is a value and no
mapping is needed.

Seconds on the ledger's timeline unless the name ends in `_at` (Unix seconds). Alembic's migrations
make these tables; a test holds the two against each other.
"""

import json
from collections.abc import Sequence

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

from gateway.job import Look

HEAD = "0004"
"""The newest migration: what a ledger of this version must be at."""

metadata = MetaData()


class Looks(TypeDecorator[tuple[Look, ...]]):
    """Looks at a video, as JSON: pairs of seconds and progress."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[Look] | None, dialect: Dialect) -> str:
        return json.dumps(value or ())

    def process_literal_param(self, value: Sequence[Look] | None, dialect: Dialect) -> str:
        return self.process_bind_param(value, dialect)


_Serial = BigInteger().with_variant(Integer(), "sqlite")

boots = Table(
    "boots",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("offset", Float, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen", Float),
)

callers = Table(
    "callers",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("caller", ForeignKey("callers.id"), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("opens", Float, nullable=False),
    Column("submits", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("doubt", Text),
    Column("trouble", Text),
    Column("doubt_since", Float, nullable=False, server_default="0"),
    Column("paused", Boolean, nullable=False, server_default="0"),
    Column("not_before", Float, nullable=False, server_default="0"),
    Column("revision", Integer, nullable=False, server_default="0"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("caller", ForeignKey("callers.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("model", String(100), nullable=False),
    Column("size", String(20), nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("accepted", Float, nullable=False),
    Column("input_sha256", String(64)),
    Column("input_type", String(40)),
    Column("account", ForeignKey("accounts.name")),
    Column("upstream_id", String(200)),
    Column("in_progress", Boolean, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("submitted", Float),
    Column("polled", Float),
    Column("looks", Looks, nullable=False, server_default="[]"),
    Column("finished", Float),
    Column("misses", Integer, nullable=False),
    Column("retry", Float, nullable=False),
    Column("requeues", Integer, nullable=False, server_default="0"),
    Column("resends", Integer, nullable=False, server_default="0"),
    Column("completed_at", Float),
    Column("content_sha256", String(64)),
    Column("content_bytes", BigInteger),
    Column("error_code", String(100)),
    Column("error_message", Text),
    Column("fingerprint", String(64)),
    Column("repeats", Integer, nullable=False, server_default="0"),
    Column("deleted_at", Float),
    Column("fetched_at", Float),
    Column("content_lost", Boolean, nullable=False, server_default="0"),
    Column("content_gone", Boolean, nullable=False, server_default="0"),
    Column("replaces", String(64)),
    Column("replaced_by", String(64)),
    Index("ix_jobs_state", "state"),
    Index("ix_jobs_caller", "caller", "seq"),
    Index("ix_jobs_fingerprint", "caller", "fingerprint"),
    Index("ix_jobs_finished", "state", "finished"),
    Index("ix_jobs_content_lost", "content_lost"),
    Index("ix_jobs_input_sha256", "input_sha256"),
    Index("ix_jobs_upstream_id", "account", "upstream_id", unique=True),
    sqlite_autoincrement=True,
)

repeats = Table(
    "repeats",
    metadata,
    Column("caller", ForeignKey("callers.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("accepted", Float, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("account", ForeignKey("accounts.name"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("job_id", String(64)),
    Column("boot", ForeignKey("boots.number"), nullable=False),
    Column("reserved_at", Float, nullable=False),
    Column("reserved", Float, nullable=False),
    Column("ended", Float),
    Column("outcome", String(32)),
    Column("upstream_id", String(200)),
    Column("touched", Boolean, nullable=False),
    Column("slot_until", Float),
    Index("ix_calls_account", "account", "ended"),
    Index("ix_calls_upstream_id", "account", "upstream_id", unique=True),
    Index("ix_calls_job_id", "job_id"),
    Index("ix_calls_slot_until", "slot_until"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("writer", String(40), nullable=False),
    Column("type", String(40), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,
)
