"""Drivers, what boards and status of many runs are answered from, and a number that runs keep wherever they go."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN = sa.text("state NOT IN ('done', 'failed', 'unsupported')")
_BATCH = 1000


def upgrade() -> None:
    """Make the table of drivers, and the new columns and indices of runs."""
    op.create_table(
        "drivers",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("born", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drivers")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("uid", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("superseded", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("driver", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("epoch", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("attempts", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("board", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("current", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("origin", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("train_seconds", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("peak_memory", sa.BigInteger(), nullable=True))
        batch_op.create_foreign_key(op.f("fk_runs_driver"), "drivers", ["driver"], ["id"])
    _fill()
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.alter_column("uid", existing_type=sa.String(length=32), nullable=False)
        batch_op.alter_column("board", existing_type=sa.String(length=16), nullable=False)
        batch_op.alter_column("current", existing_type=sa.Boolean(), server_default=None)
        batch_op.create_index(
            "ix_runs_open",
            ["identity", "data_digest", "device_class"],
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        )
        batch_op.create_index("ix_runs_uid", ["uid"], unique=True)
        batch_op.create_index("ix_runs_grid", ["grid", "state"], unique=False)
        batch_op.create_index("ix_runs_board", ["current", "board", "finished"], unique=False)
        batch_op.create_index("ix_runs_driver", ["driver", "state"], unique=False)
    with op.batch_alter_table("cells", schema=None) as batch_op:
        batch_op.create_index("ix_cells_task", ["task", "task_version"], unique=False)
        batch_op.create_index("ix_cells_method", ["method", "method_version"], unique=False)


def _fill() -> None:
    """Give the runs that are there their new columns' values."""
    runs = sa.table(
        "runs",
        *(sa.column(name) for name in ("id", "uid", "identity", "state", "data_digest", "device_class", "board")),
        *(sa.column(name) for name in _COSTS),
        sa.column("created", sa.DateTime(timezone=True)),
        sa.column("current", sa.Boolean()),
        sa.column("cost", sa.JSON()),
    )
    cells = sa.table("cells", sa.column("identity"), sa.column("canonical"))
    connection = op.get_bind()
    # A database may be large: the long columns are read in portions.
    keys = (runs.c.identity, runs.c.data_digest, runs.c.device_class)
    ended: dict[tuple[str, ...], int] = {}
    still_open: dict[tuple[str, ...], int] = {}
    numbers: list[int] = []
    left: list[int] = []
    for number, state, *fields in connection.execute(
        sa.select(runs.c.id, runs.c.state, *keys).order_by(runs.c.id)
    ).all():
        numbers.append(number)
        key = tuple(fields)
        if state not in _ENDED and key in still_open:
            # An older one that never ended holds nothing, and only the newest can go on.
            left.append(still_open[key])
        (ended if state in _ENDED else still_open)[key] = number
    update = (
        runs.update()
        .where(runs.c.id == sa.bindparam("number"))
        .values({name: sa.bindparam(f"new_{name}") for name in ("uid", "board", "current", *_COSTS)})
    )
    uids: set[str] = set()
    query = sa.select(runs.c.id, *keys, runs.c.created, runs.c.cost, cells.c.canonical).join(
        cells, cells.c.identity == runs.c.identity
    )
    for start in range(0, len(numbers), _BATCH):
        some = numbers[start : start + _BATCH]
        values: list[dict[str, Any]] = []
        for row in connection.execute(query.where(runs.c.id.between(some[0], some[-1])).order_by(runs.c.id)).all():
            key = (row.identity, row.data_digest, row.device_class)
            created = row.created if row.created.tzinfo else row.created.replace(tzinfo=UTC)
            uid = _digest([*key, created.astimezone(UTC).isoformat()], 32)
            if uid in uids:
                uid = _digest([uid, row.id], 32)
            uids.add(uid)
            values.append(
                {
                    "number": row.id,
                    "new_uid": uid,
                    "new_board": _board(row.canonical, row.data_digest, row.device_class),
                    "new_current": ended.get(key) == row.id,
                    **{f"new_{name}": (row.cost or {}).get(name) for name in _COSTS},
                }
            )
        connection.execute(update, values)
    for number in left:
        connection.execute(runs.delete().where(runs.c.id == number))


_ENDED = ("done", "failed", "unsupported")
_COSTS = ("train_seconds", "peak_memory")


def _board(canonical: str, data_digest: str, device_class: str) -> str:
    cell = json.loads(canonical)
    return _digest([cell.get("task"), cell.get("architecture"), cell.get("recipe"), data_digest, device_class], 16)


def _digest(content: list[Any], length: int) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]
