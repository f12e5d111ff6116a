"""Results as JSON lines: one ended run a line, with its cell and provenance.

This is how results travel from the machine that made them into the repository and the published board.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from npas_bench.errors import StoreError
from npas_bench.store.keys import RunKey, board_key, run_uid
from npas_bench.store.runs import mark_current
from npas_bench.store.schema import ENDED, CellRow, MetricRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from npas_bench.store.database import Store

_CELL_FIELDS = [column.key for column in CellRow.__table__.columns]
# What only the database that a run was made in has a use for.
_LOCAL = {"id", "identity", "token", "driver", "board", "current"}
_RUN_FIELDS = [column.key for column in RunRow.__table__.columns if column.key not in _LOCAL]


class Record(BaseModel):
    """One ended run.

    Attributes:
        format: of the record.
        cell: the columns of its cell.
        run: the columns of the run, but those that only matter where it was made.
        metrics: the columns of its metrics.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    cell: dict[str, Any]
    run: dict[str, Any]
    metrics: list[dict[str, Any]]


def export_runs(store: Store) -> Iterator[str]:
    """Every ended run of a store as a JSON line, oldest first."""
    query = (
        select(RunRow)
        .where(RunRow.state.in_(ENDED))
        .order_by(RunRow.id)
        .options(joinedload(RunRow.cell), selectinload(RunRow.metrics))
    )
    with store.session() as session:
        for row in session.scalars(query):
            record = Record(
                cell={name: getattr(row.cell, name) for name in _CELL_FIELDS},
                run={name: getattr(row, name) for name in _RUN_FIELDS},
                metrics=[
                    {key: getattr(m, key) for key in ("name", "value", "position", "unit", "higher_is_better")}
                    for m in sorted(row.metrics, key=lambda m: m.position)
                ],
            )
            yield json.dumps(record.model_dump(mode="json"), sort_keys=True, allow_nan=False)


def add_records(store: Store, paths: Iterable[Path]) -> int:
    """Add the runs in files of JSON lines to a store; how many there were.

    Raises:
        StoreError: if a line is no record of a run; nothing is added then.
    """
    count = 0
    with store.session.begin() as session:
        for path in paths:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                try:
                    record = Record.model_validate_json(line)
                    cell = CellRow(**record.cell)
                    run = _run(cell, _with_times(record.run))
                    run.metrics = [MetricRow(**metric) for metric in record.metrics]
                except (ValidationError, TypeError, ValueError) as error:
                    raise StoreError(f"{path}, line {number}, is no record of a run: {error}") from None
                session.merge(cell)
                session.add(run)
                session.flush()
                mark_current(session, RunKey(run.identity, run.data_digest, run.device_class), run.id)
                count += 1
    return count


def _run(cell: CellRow, fields: dict[str, Any]) -> RunRow:
    key = RunKey(cell.identity, fields["data_digest"], fields["device_class"])
    # Records of before there were such numbers.
    uid = fields.get("uid") or run_uid(key, fields["created"])
    cost = fields.get("cost") or {}
    derived = {name: cost.get(name) for name in ("train_seconds", "peak_memory")}
    board = board_key(cell.canonical, key.data_digest, key.device_class)
    return RunRow(**{**derived, **fields, "identity": cell.identity, "uid": uid, "board": board})


def _with_times(fields: dict[str, Any]) -> dict[str, Any]:
    times = {
        name: datetime.fromisoformat(fields[name])
        for name in ("created", "started", "finished")
        if fields.get(name) is not None
    }
    return fields | times
