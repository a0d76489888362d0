"""How Alembic reaches the ledger: over the connection that it is handed. There is no offline
mode.
"""

from alembic import context

from gateway.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
