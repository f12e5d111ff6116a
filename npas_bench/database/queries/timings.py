"""What forecasts read from the database: the time and memory that finished runs took."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Float, Text, case, cast, select

from npas_bench.database.bounds import LONGEST, SHORTEST, believable_bytes, believable_seconds
from npas_bench.database.schema import CellRow, RunRow
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from npas_bench.database.opening import Database

# A database may hold a million runs. The newest tell most about the next ones; a sample of the others is enough.
MOST = 10_000
# SQLite takes 32,766 variables in a statement, and older builds of it 999.
_CHUNK = 900


class Timing(NamedTuple):
    """The time and memory that a finished run took. Repetitions tell as much as other runs.

    Attributes:
        uid: uid of the run, the same in every database.
        options: options of the method, as JSON.
        recipe: fields of the recipe, as JSON.
        device: name of the device.
        host: class of the host; None if it was not noted.
        engine: switches that were on, as JSON; None if there were none.
        train_seconds: time of all training, the search included.
        evaluate_seconds: time of the evaluation.
        seconds_per_step: median time of a training step.
        peak_memory: bytes at the peak.
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
    """Read what finished runs on a class of devices took, the newest first.

    Args:
        database: open.
        device_class: `cpu` or `cuda`.
        most: the largest number of runs. If there are more, half of those read are the newest ones, and the other half
            are picked evenly from the rest.
    """
    # JSON is read as text, so that whoever needs it parses equal texts once.
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
        .where(RunRow.state == RunState.DONE, RunRow.device_class == device_class)
        .where(RunRow.train_seconds.between(SHORTEST, LONGEST))
        .order_by(RunRow.id.desc())
    )
    newest = math.ceil(most / 2)
    with database.session() as session:
        rows = list(session.execute(query.limit(newest)))
        older = range(rows[-1].id - 1, 0, -1) if len(rows) == newest else range(0)
        picked = older[:: math.ceil(len(older) / (most - newest))] if older and most > newest else range(0)
        for start in range(0, len(picked), _CHUNK):
            rows += session.execute(query.where(RunRow.id.in_(picked[start : start + _CHUNK])))
    return [_believed(Timing(*row[1:-1]), _epochs(row[-1])) for row in rows]


def _believed(timing: Timing, epochs: int | None) -> Timing:
    """The timing without costs that no run can have, which earlier versions took from elsewhere."""
    return timing._replace(
        evaluate_seconds=believable_seconds(timing.evaluate_seconds),
        seconds_per_step=believable_seconds(timing.seconds_per_step),
        peak_memory=believable_bytes(timing.peak_memory),
        trained_epochs=epochs,
    )


def _has_stop_rule() -> ColumnElement[bool]:
    rule: ColumnElement[bool] = CellRow.recipe["stop_metric"].as_string().is_not(None)
    return rule


def _epochs(history: str | None) -> int | None:
    """The number of epochs in a history; None where there is none."""
    entries = json.loads(history) if history else None
    return len(entries) if entries else None
