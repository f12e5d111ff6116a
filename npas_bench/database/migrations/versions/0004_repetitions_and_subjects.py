"""Repetitions of runs, what a run measured besides what ranks it, and the files of weights that were kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ENDED = "'done', 'failed', 'unsupported'"
_OPEN = sa.text(f"state NOT IN ({_ENDED}) AND repeats IS NULL")
_OPEN_REPETITION = sa.text(f"state NOT IN ({_ENDED}) AND repeats IS NOT NULL")
_REPETITION = sa.text("repeats IS NOT NULL")


def upgrade() -> None:
    """Add two columns to the runs, and make the tables of subjects, evaluations and weights."""
    # Not in a batch: SQLite would copy the table, and it can add a column that may be NULL without that.
    op.add_column("runs", sa.Column("repeats", sa.String(length=32), nullable=True))
    op.add_column("runs", sa.Column("reported_epoch", sa.Integer(), nullable=True))
    op.drop_index("ix_runs_open", table_name="runs")
    key = ["identity", "data_digest", "device_class"]
    for name, columns, unique, condition in (
        ("ix_runs_open", key, True, _OPEN),
        ("ix_runs_open_repetition", ["repeats"], True, _OPEN_REPETITION),
        ("ix_runs_repeats", ["repeats"], False, _REPETITION),
    ):
        op.create_index(name, "runs", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
    _make_tables()


def _make_tables() -> None:
    op.create_table(
        "subjects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("forward_flops", sa.BigInteger(), nullable=True),
        sa.Column("latency_seconds", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_subjects_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subjects")),
    )
    op.create_index("ix_subjects_run", "subjects", ["run_id", "name"], unique=True)
    op.create_table(
        "evaluations",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("split", sa.String(length=100), nullable=False),
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("higher_is_better", sa.Boolean(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_evaluations_run_id")),
        sa.PrimaryKeyConstraint("run_id", "subject", "split", "metric", name=op.f("pk_evaluations")),
    )
    op.create_table(
        "weights",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("file", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_weights_run_id")),
        sa.PrimaryKeyConstraint("run_id", "kind", name=op.f("pk_weights")),
    )
