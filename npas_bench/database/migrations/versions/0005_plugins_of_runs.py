"""The code of the third-party plugins that runs used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add a column to the runs; of the runs that are there, the code of their plugins is not known."""
    # Not in a batch: SQLite would copy the table, and it can add a column that may be NULL without that.
    op.add_column("runs", sa.Column("plugins", sa.JSON(), nullable=True))
