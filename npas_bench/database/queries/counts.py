"""How many runs are in which state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from npas_bench.database.schema import RunRow

if TYPE_CHECKING:
    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database
    from npas_bench.database.states import RunState


def count_states(database: Database, *, grid: GridRuns | None = None) -> dict[str, dict[RunState, int]]:
    """The number of runs in each state, by grid; runs without a grid are under an empty name.

    The runs of a grid that is asked for are all under its name.
    """
    query = select(RunRow.grid, RunRow.state, func.count()).group_by(RunRow.grid, RunRow.state)
    if grid is not None:
        query = query.where(grid.condition(database))
    found: dict[str, dict[RunState, int]] = {}
    with database.session() as session:
        for name, state, count in session.execute(query):
            states = found.setdefault(name or "" if grid is None else grid.name, {})
            states[state] = states.get(state, 0) + count
    return found
