"""A table for the numbers that papers print."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table, which is filled from the package's own list whenever that is another."""
    op.create_table(
        "papers",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("edition", sa.String(length=16), nullable=False),
        *(
            sa.Column(name, sa.String(length=length), nullable=False)
            for name, length in (
                ("source", 64),
                ("table", 64),
                ("task", 64),
                ("dataset", 64),
                ("architecture", 200),
                ("method", 64),
                ("variant", 200),
            )
        ),
        sa.Column("budget_percent", sa.Double(), nullable=True),
        sa.Column("params_millions", sa.Double(), nullable=True),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=32), nullable=False),
        sa.Column("spread", sa.String(length=32), nullable=True),
        sa.Column("runs", sa.Integer(), nullable=True),
        sa.Column("higher_is_better", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("method_here", sa.String(length=64), nullable=True),
        sa.Column("options_here", sa.JSON(), nullable=True),
        sa.Column("budget_here", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_papers")),
    )
