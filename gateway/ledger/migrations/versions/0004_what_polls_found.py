"""What the polls of a video found: when to poll it next goes by them"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    looks = sa.Column("looks", sa.Text(), server_default="[]", nullable=False)
    op.add_column("jobs", looks)
