"""What forecasts read from the database: what finished runs took."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Float, Text, case, cast, select

from npas_bench.database.schema import CellRow, RunRow
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from npas_bench.database.opening import Database

# A database may hold a million runs: the newest tell most about the next ones, and some of all the others.
MOST = 10_000
# SQLite takes 32,766 variables in a statement; older builds took 999.
_CHUNK = 900


class Timing(NamedTuple):
    """What a finished run took.

    Attributes:
        uid: of the run, the same in every database.
        options: of the method, as JSON.
        recipe: its fields, as JSON.
        device: its name.
        host: class of the host; None where it was not noted.
        engine: switches that were on, as JSON; None for none.
        train_seconds: all of training, the search included.
        evaluate_seconds: of evaluation.
        seconds_per_step: of training.
        peak_memory: bytes.
        trained_epochs: how many epochs it trained, where its recipe has a stop rule; None trained them all.
    """

    uid: str
    task: str
    architecture: str
    method: str
    options: str
    budget: int
    recipe: str
    device: str
    host: str | None
    engine: str | None
    train_seconds: float
    evaluate_seconds: float | None
    seconds_per_step: float | None
    peak_memory: int | None
    trained_epochs: int | None = None


def read_timings(database: Database, device_class: str, *, most: int = MOST) -> list[Timing]:
    """What finished runs on a class of devices took, newest first.

    Args:
        database: open.
        device_class: `cpu` or `cuda`.
        most: runs to read; where there are more, half of them are the newest, and the others are picked evenly.
    """
    # As text: alike ones are parsed once, by whoever needs them.
    query: Any = (
        select(
            RunRow.id,
            RunRow.uid,
            CellRow.task,
            CellRow.architecture,
            CellRow.method,
            cast(CellRow.options, Text),
            CellRow.budget,
            cast(CellRow.recipe, Text),
            RunRow.device,
            RunRow.host,
            cast(RunRow.cost["engine"].as_string(), Text),
            RunRow.train_seconds,
            cast(RunRow.cost["evaluate_seconds"].as_string(), Float),
            RunRow.seconds_per_step,
            RunRow.peak_memory,
            # Read only where it tells something: histories are long.
            case((_has_stop_rule(), cast(RunRow.history, Text))),
        )
        .join(CellRow, CellRow.identity == RunRow.identity)
        .where(RunRow.state == RunState.DONE, RunRow.device_class == device_class, RunRow.train_seconds > 0)
        .order_by(RunRow.id.desc())
    )
    newest = math.ceil(most / 2)
    with database.session() as session:
        rows = list(session.execute(query.limit(newest)))
        older = range(rows[-1].id - 1, 0, -1) if len(rows) == newest else range(0)
        picked = older[:: math.ceil(len(older) / (most - newest))] if older and most > newest else range(0)
        for start in range(0, len(picked), _CHUNK):
            rows += session.execute(query.where(RunRow.id.in_(picked[start : start + _CHUNK])))
    return [Timing(*row[1:-1])._replace(trained_epochs=_epochs(row[-1])) for row in rows]


def _has_stop_rule() -> ColumnElement[bool]:
    rule: ColumnElement[bool] = CellRow.recipe["stop_metric"].as_string().is_not(None)
    return rule


def _epochs(history: str | None) -> int | None:
    """The number of epochs in a history; None where there is none."""
    entries = json.loads(history) if history else None
    return len(entries) if entries else None
