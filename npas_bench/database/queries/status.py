"""How the runs of a database are getting on: what `npas-bench status` shows.

A reader cannot mark what a dead driver left behind, so that it tells it apart here: a run that is stored as running,
and whose driver is dead, is stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, or_, select

from npas_bench.database.drivers import clock, dead_drivers
from npas_bench.database.labels import cell_label
from npas_bench.database.queries.counts import count_states
from npas_bench.database.schema import CellRow, DriverRow, RunRow
from npas_bench.database.states import UNDER_WAY, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database

# All of them, in the order in which they are shown.
STATES = (
    RunState.DONE,
    RunState.RUNNING,
    RunState.PENDING,
    RunState.FAILED,
    RunState.UNSUPPORTED,
    RunState.STALE,
    RunState.CANCELLED,
)


class UnderWay(NamedTuple):
    """A run that has begun and not ended.

    Attributes:
        run: number of the run.
        grid: name of the grid that it was run for; None if there was none.
        cell: the cell in words, and whether it is repeated.
        state: `running`, or `stale` if its driver is dead.
        epoch: whole epochs that its driver has reported; None before the first one.
        epochs: epochs of its recipe; None if the recipe does not say.
        attempt: number of the attempt, from 1.
        since: when the first attempt began.
        driver: id of the driver that has it, or had it.
    """

    run: int
    grid: str | None
    cell: str
    state: RunState
    epoch: int | None
    epochs: int | None
    attempt: int
    since: datetime | None
    driver: str | None


class Driver(NamedTuple):
    """A driver at work, or one that left runs behind.

    Attributes:
        id: id of the driver in the database.
        host: name of the host that it runs on.
        pid: number of the process on that host.
        version: version of the package that it runs.
        started: when it began.
        heartbeat: when it was last known to be alive.
        alive: whether it is at work.
        running: number of runs that it has, or left behind.
    """

    id: str
    host: str
    pid: int
    version: str
    started: datetime
    heartbeat: datetime
    alive: bool
    running: int


class Status(NamedTuple):
    """How the runs of a database are getting on.

    Attributes:
        moment: the time of this status, by the database's clock.
        counts: number of runs in each state, by grid; runs without a grid are under an empty name.
        under_way: running and stale runs, running ones first, as many as were asked for.
        hidden: number of further runs that are running or stale.
        drivers: the drivers at work, and those that left runs behind.
    """

    moment: datetime
    counts: dict[str, dict[RunState, int]]
    under_way: list[UnderWay]
    hidden: int
    drivers: list[Driver]

    @property
    def lively(self) -> bool:
        """Tell whether anything is running or pending."""
        return any(count and state.lively for counts in self.counts.values() for state, count in counts.items())


def read_status(database: Database, *, grid: GridRuns | None = None, limit: int = 20) -> Status:
    """Tell how the runs of a database, or of one grid, are getting on.

    Args:
        database: open.
        grid: only runs of this grid; all if left out.
        limit: the largest number of running and stale runs to list one by one.
    """
    dead = dead_drivers(database)
    counts = count_states(database, grid=grid)
    begun = [name for name, states in counts.items() if any(states.get(state) for state in UNDER_WAY)]
    if grid is not None:
        here = grid.condition(database)
    else:
        here = or_(RunRow.grid.in_(begun), RunRow.grid.is_(None)) if "" in begun else RunRow.grid.in_(begun)
    with database.session() as session:
        moment = clock(session)
        rows = {row.id: row for row in session.scalars(select(DriverRow).where(DriverRow.ended.is_(None)))}
        had = _had(session, here) if begun else []
        missing = {driver for _, _, driver, _ in had if driver} - rows.keys()
        rows |= {row.id: row for row in session.scalars(select(DriverRow).where(DriverRow.id.in_(missing)))}
        alive = {row.id for row in rows.values() if row.ended is None and row.id not in dead}
        running = dict.fromkeys(rows, 0)
        for name, state, driver, count in had:
            if driver is not None:
                running[driver] += count
            if state is RunState.RUNNING and driver not in alive:
                states = counts[name or "" if grid is None else grid.name]
                # They were counted a moment ago, and some may have moved to another state since.
                moved = min(count, states.get(RunState.RUNNING, 0))
                states[RunState.RUNNING] = states.get(RunState.RUNNING, 0) - moved
                states[RunState.STALE] = states.get(RunState.STALE, 0) + moved
        under_way = _under_way(session, here, alive, limit) if begun else []
    drivers = [
        Driver(id_, row.host, row.pid, row.version, row.started, row.heartbeat, id_ in alive, running[id_])
        for id_, row in rows.items()
        if id_ in alive or running[id_]
    ]
    return Status(
        moment=moment,
        counts=dict(sorted(counts.items())),
        under_way=under_way,
        hidden=max(0, sum(count for *_, count in had) - len(under_way)),
        drivers=sorted(drivers, key=lambda driver: (not driver.alive, driver.started, driver.id)),
    )


def _had(session: Session, here: ColumnElement[bool]) -> list[Any]:
    """The number of runs that are stored as running or stale, by grid, state and driver."""
    query = (
        select(RunRow.grid, RunRow.state, RunRow.driver, func.count())
        .where(here, RunRow.state.in_(UNDER_WAY))
        .group_by(RunRow.grid, RunRow.state, RunRow.driver)
    )
    return list(session.execute(query))


def _under_way(session: Session, here: ColumnElement[bool], alive: set[str], limit: int) -> list[UnderWay]:
    lives = RunRow.driver.in_(alive) & (RunRow.state == RunState.RUNNING)
    query = (
        select(RunRow, CellRow)
        .join(CellRow, CellRow.identity == RunRow.identity)
        .where(here, RunRow.state.in_(UNDER_WAY))
        .order_by(lives.desc(), RunRow.id)
        .limit(limit)
    )
    return [
        UnderWay(
            run=run.id,
            grid=run.grid,
            cell=cell_label(cell) + (", repeated" if run.repeats else ""),
            state=RunState.RUNNING if run.state is RunState.RUNNING and run.driver in alive else RunState.STALE,
            epoch=run.epoch,
            epochs=_epochs(cell.recipe),
            attempt=run.attempt,
            since=run.started,
            driver=run.driver,
        )
        for run, cell in session.execute(query)
    ]


def _epochs(recipe: Mapping[str, Any]) -> int | None:
    epochs = recipe.get("epochs")
    return epochs if isinstance(epochs, int) else None
