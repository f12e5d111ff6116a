"""The results that boards are made from, and single runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import joinedload, selectinload

from npas_bench.cells.labels import method_label
from npas_bench.database.bounds import believable_bytes, believable_operations, believable_seconds
from npas_bench.database.queries.counts import count_states
from npas_bench.database.schema import CellRow, MetricRow, RunRow
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement

    from npas_bench.database.opening import Database
    from npas_bench.database.states import RunState


class Result(NamedTuple):
    """The newest ended run of a cell, on some data and device class, with one metric of it.

    Attributes:
        run: number of the run in its database.
        identity: identity of its cell.
        board: key of the table that it belongs to.
        seconds_per_step: median time of a training step.
        peak_memory: bytes at the peak.
        forward_flops: floating-point operations of one example's forward pass, weights as they are.
        generation_flops: floating-point operations of generating all weights once.
        metric: name of the metric; None if the run is not done or does not have it.
        value: value of the metric.
        unit: unit of the value.
        higher_is_better: whether a higher value is better.
        origin: name of the file that a run from elsewhere came in; None for a run of this database.
    """

    run: int
    identity: str
    board: str
    task: str
    architecture: str
    recipe: str
    data_label: str
    data_digest: str
    data_official: bool
    device_class: str
    method: str
    task_version: int
    method_version: int
    options: dict[str, Any]
    budget: int
    budget_text: str
    full: int
    seed: int
    state: RunState
    parameters: int | None
    seconds_per_step: float | None
    peak_memory: int | None
    forward_flops: float | None
    generation_flops: float | None
    message: str | None
    metric: str | None
    value: float | None
    unit: str | None
    higher_is_better: bool | None
    origin: str | None = None


# SQLite takes 32,766 variables in a statement, and older builds of it 999.
_AT_ONCE = 500
_COLUMNS = (
    RunRow.id,
    RunRow.identity,
    RunRow.board,
    CellRow.task,
    CellRow.architecture,
    CellRow.recipe_name,
    RunRow.data_label,
    RunRow.data_digest,
    RunRow.data_official,
    RunRow.device_class,
    CellRow.method,
    CellRow.task_version,
    CellRow.method_version,
    CellRow.options,
    CellRow.budget,
    CellRow.budget_text,
    CellRow.full,
    CellRow.seed,
    RunRow.state,
    RunRow.parameters,
    RunRow.seconds_per_step,
    RunRow.peak_memory,
    # Read as floating-point numbers, since PostgreSQL's integers would end at two thousand million.
    RunRow.cost["forward_flops"].as_float(),
    RunRow.cost["generation_flops"].as_float(),
    RunRow.message,
    MetricRow.name,
    MetricRow.value,
    MetricRow.unit,
    MetricRow.higher_is_better,
    RunRow.origin,
)


def read_results(
    database: Database,
    *,
    task: str | None = None,
    architecture: str | None = None,
    metric: str | None = None,
    boards: Sequence[str] | None = None,
    conditions: Iterable[ColumnElement[bool]] = (),
) -> list[Result]:
    """Read the newest ended run of every cell, in a fixed order.

    Args:
        database: open.
        task: only cells of this task; all if left out.
        architecture: only cells of this architecture; all if left out.
        metric: name of the metric to read; each task's primary one if left out.
        boards: keys of the tables to read; all if left out.
        conditions: further conditions on runs and cells.
    """
    wanted = MetricRow.position == 0 if metric is None else MetricRow.name == metric
    query: Any = (
        select(*_COLUMNS)
        .join(CellRow, CellRow.identity == RunRow.identity)
        .join(MetricRow, (MetricRow.run_id == RunRow.id) & wanted, isouter=True)
        .where(RunRow.current, *conditions)
    )
    if task is not None:
        query = query.where(CellRow.task == task)
    if architecture is not None:
        query = query.where(CellRow.architecture == architecture)
    queries = [query]
    if boards is not None:
        parts = [boards[start : start + _AT_ONCE] for start in range(0, len(boards), _AT_ONCE)]
        queries = [query.where(RunRow.board.in_(part)) for part in parts]
    with database.session() as session:
        results = [_believed(Result(*row)) for one in queries for row in session.execute(one)]
    # Not sorted by the database, which might choose a slower index for it, and would follow a locale's rules.
    return sorted(results, key=lambda r: (r.task, r.architecture, r.budget, r.method, r.seed, r.run))


def _believed(result: Result) -> Result:
    """The result without costs that no run can have, which earlier versions took from elsewhere."""
    costs = (result.seconds_per_step, result.peak_memory, result.forward_flops, result.generation_flops)
    seconds, memory = believable_seconds(result.seconds_per_step), believable_bytes(result.peak_memory)
    forward, generation = map(believable_operations, costs[2:])
    if (seconds, memory, forward, generation) == costs:
        return result
    return result._replace(
        seconds_per_step=seconds, peak_memory=memory, forward_flops=forward, generation_flops=generation
    )


# The columns of the names that a user may choose by.
_NAMES = {
    "task": CellRow.task,
    "architecture": CellRow.architecture,
    "method": CellRow.method,
    "metric": MetricRow.name,
}


def has_name(database: Database, kind: str, name: str) -> bool:
    """Tell whether a database has a task, architecture, method or metric of a name."""
    column = _NAMES[kind]
    with database.session() as session:
        return session.scalar(select(column).where(column == name).limit(1)) is not None


def stored_names(database: Database, kind: str) -> set[str]:
    """The names of tasks, architectures, methods or metrics that a database holds."""
    with database.session() as session:
        return set(session.scalars(select(_NAMES[kind]).distinct()))


def stored_methods(database: Database, *, task: str | None = None, architecture: str | None = None) -> set[str]:
    """Labels of the methods, with their options, that a database has cells of.

    Args:
        database: open.
        task: only of cells of this task; of all if left out.
        architecture: only of cells of this architecture; of all if left out.
    """
    # PostgreSQL does not compare values of type JSON, but it compares their texts.
    query = select(CellRow.method, cast(CellRow.options, Text)).distinct()
    if task is not None:
        query = query.where(CellRow.task == task)
    if architecture is not None:
        query = query.where(CellRow.architecture == architecture)
    with database.session() as session:
        return {method_label(method, json.loads(options)) for method, options in session.execute(query)}


def count_unfinished(database: Database) -> int:
    """The number of runs that are pending or were interrupted."""
    return sum(count for states in count_states(database).values() for state, count in states.items() if state.open)


def find_run(database: Database, run: int) -> RunRow | None:
    """A run with its cell and all that it measured; None if there is no run of that number.

    Raises:
        DatabaseError: if the run's cell is not there.
    """
    lists = (RunRow.metrics, RunRow.subjects, RunRow.evaluations, RunRow.weights)
    query = select(RunRow).where(RunRow.id == run).options(joinedload(RunRow.cell), *map(selectinload, lists))
    with database.session() as session:
        row: RunRow | None = session.scalar(query)
    if row is not None and row.cell is None:
        raise DatabaseError(f"database {database.location}: run {run} has no cell, and npas-bench db check says more")
    return row


def latest_runs(database: Database, count: int) -> list[int]:
    """Ids of the newest runs, newest first."""
    with database.session() as session:
        return list(session.scalars(select(RunRow.id).order_by(RunRow.id.desc()).limit(count)))
