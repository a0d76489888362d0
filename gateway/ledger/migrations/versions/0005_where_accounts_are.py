"""Where each account's videos are made: its tasks are lost where that changes"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    upstream = sa.Column("upstream", sa.Text(), server_default="", nullable=False)
    op.add_column("accounts", upstream)
