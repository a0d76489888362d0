"""Callers and their keys: made, revoked, read. Used by the command line beside a running server."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.job import Caller, Key
from gateway.ledger import schema
from gateway.ledger.transitions import Change, transition


@transition
def add_key(conn: Connection, name: str, key_id: str, digest: str, wall: float) -> Change:
    """A new key for the caller called `name`, who is made if nobody bears that name."""
    caller = _caller(conn, name, wall)
    values = {"id": key_id, "caller": caller.id, "digest": digest, "created_at": wall}
    conn.execute(insert(schema.keys).values(values))
    return Change(keys=(Key(key_id, caller, digest, wall),))


@transition
def revoke_keys(conn: Connection, name_or_id: str, wall: float) -> Change:
    """Revoke one key by its id, or all keys of the caller called so. An empty change: nothing
    matched.
    """
    named = (schema.callers.c.name == name_or_id) | (schema.keys.c.id == name_or_id)
    rows = conn.execute(_KEYS.where(named, schema.keys.c.revoked_at.is_(None))).mappings().all()
    revoked = tuple(replace(read_key(row), revoked_at=wall) for row in rows)
    for key in revoked:
        where = schema.keys.c.id == key.id
        conn.execute(update(schema.keys).where(where).values(revoked_at=wall))
    return Change(keys=revoked)


@transition
def add_caller(conn: Connection, name: str, wall: float) -> Change:
    """Make sure that a caller of this name is there (the one of `open` mode)."""
    _caller(conn, name, wall)
    return Change()


_KEYS = select(
    schema.keys.c.id,
    schema.keys.c.caller,
    schema.callers.c.name,
    schema.keys.c.digest,
    schema.keys.c.created_at,
    schema.keys.c.revoked_at,
).join_from(schema.keys, schema.callers)


def read_key(row: Any) -> Key:
    """The key that a row of `keys` joined to its caller is."""
    caller = Caller(row["caller"], row["name"])
    return Key(row["id"], caller, row["digest"], row["created_at"], row["revoked_at"])


def _caller(conn: Connection, name: str, wall: float) -> Caller:
    row = conn.execute(select(schema.callers.c.id).where(schema.callers.c.name == name)).first()
    if row is not None:
        return Caller(row.id, name)
    # The id is the name's own: two processes that make the same caller at once make one.
    caller = Caller(f"caller_{name}", name)
    conn.execute(insert(schema.callers).values(id=caller.id, name=name, created_at=wall))
    return caller
