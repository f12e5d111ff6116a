"""Lists of runs, one line for each, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, false, func, or_, select

from npas_bench.database.labels import cell_label
from npas_bench.database.schema import CellRow, MetricRow, RunRow
from npas_bench.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import ColumnElement

    from npas_bench.budget import Budget
    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database
    from npas_bench.database.states import RunState


class RunLine(NamedTuple):
    """One run of a list.

    Attributes:
        run: number of the run.
        grid: name of the grid that it was run for; None if there was none.
        cell: the cell in words.
        state: state of the run.
        message: why it failed or is unsupported; None otherwise.
        finished: when it ended; None if it has not.
        metric: name of its primary metric; None without a result.
        value: value of that metric.
        unit: unit of that metric.
        moment: when it ended, or else began, or else was created.
    """

    run: int
    grid: str | None
    cell: str
    state: RunState
    message: str | None
    finished: datetime | None
    metric: str | None = None
    value: float | None = None
    unit: str | None = None
    moment: datetime | None = None


def recent_runs(
    database: Database,
    *,
    states: Collection[RunState] | None = None,
    grid: GridRuns | None = None,
    task: str | None = None,
    method: str | None = None,
    budget: Budget | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> list[RunLine]:
    """The newest runs.

    Args:
        database: open.
        states: only runs in these states; all if left out.
        grid: only runs of this grid; all if left out.
        task: only runs of this task; all if left out.
        method: only runs of this method; all if left out.
        budget: only runs at this budget, however it was written for them; at all budgets if left out.
        since: only runs that ended, or else began, or else were created at this moment or later; all if left out.
        limit: the largest number of runs.
    """
    moment = func.coalesce(RunRow.finished, RunRow.started, RunRow.created)
    query = (
        select(RunRow.id, RunRow.grid, RunRow.state, RunRow.message, RunRow.finished, CellRow, MetricRow, moment)
        .join(CellRow, CellRow.identity == RunRow.identity)
        .outerjoin(MetricRow, (MetricRow.run_id == RunRow.id) & (MetricRow.position == 0))
        .order_by(RunRow.id.desc())
        .limit(limit)
    )
    if states is not None:
        query = query.where(RunRow.state.in_(states))
    if grid is not None:
        query = query.where(grid.condition(database))
    for column, wanted in ((CellRow.task, task), (CellRow.method, method)):
        if wanted is not None:
            query = query.where(column == wanted)
    if since is not None:
        query = query.where(moment >= since)
    with database.session() as session:
        if budget is not None:
            query = query.where(_at(budget, session.scalars(select(CellRow.full).distinct()).all()))
        return [
            RunLine(run, name, cell_label(cell), state, message, finished, *_result(metric), last)
            for run, name, state, message, finished, cell, metric, last in session.execute(query)
        ]


def stored_budgets(database: Database) -> list[str]:
    """The budgets that a database has cells at, as they were written, in rising order of their scalars; at most 12."""
    query = select(CellRow.budget_text).group_by(CellRow.budget_text).order_by(func.min(CellRow.budget)).limit(12)
    with database.session() as session:
        return list(session.scalars(query))


def _at(budget: Budget, sizes: Collection[int]) -> ColumnElement[bool]:
    """The condition that a cell has a budget, whose scalars depend on the size of the cell's full architecture."""
    possible = []
    for full in sizes:
        try:
            possible.append(and_(CellRow.full == full, CellRow.budget == budget.resolve(full)))
        except BudgetError:
            # No cell of this architecture can have it.
            continue
    return or_(false(), *possible)


def _result(metric: MetricRow | None) -> tuple[str | None, float | None, str | None]:
    return (None, None, None) if metric is None else (metric.name, metric.value, metric.unit)
