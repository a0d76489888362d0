"""Alembic's migrations of the ledger, run by `ledger/database.py` when a server starts."""
