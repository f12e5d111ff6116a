"""The command `npas-bench cancel`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import grid_names
from npas_bench.cli.console import output
from npas_bench.errors import DatabaseError, NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database
    from npas_bench.database.states import RunState


def cancel(
    runs: Annotated[
        list[int] | None, typer.Argument(metavar="RUN...", max=choose.LAST_RUN, help="Numbers of runs.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option("--grid", metavar="NAME|FILE", help="All runs of this grid.", autocompletion=grid_names),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All runs of the database.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Cancel without asking.")] = False,
    db: choose.Database = None,
) -> None:
    """Cancel runs that are pending, running or stale.

    A driver stops such a run within seconds, or at the end of its epoch where it runs inline. What the run has reached
    is kept, and the npas-bench run command that started it goes on with it.
    """
    from npas_bench.database.access import Access, opened
    from npas_bench.database.opening import locate
    from npas_bench.leaderboard.published import refuse_published

    if (bool(runs), grid is not None, everything).count(True) != 1:
        raise NpasBenchError("name what to cancel: numbers of runs, or --grid NAME, or --all")
    location = locate(db)
    refuse_published(location)
    with opened(location, Access.BESIDE) as database:
        if runs:
            _cancel_runs(database, sorted(set(runs)))
        else:
            _cancel_many(
                database,
                choose.runs_of_grid(grid, location),
                ask=not yes and sys.stdin is not None and sys.stdin.isatty(),
            )


def _cancel_runs(database: Database, runs: list[int]) -> None:
    from npas_bench.database.queries.results import latest_runs
    from npas_bench.database.runs import states_of
    from npas_bench.database.states import RunState

    states = states_of(database, runs)
    unknown = [run for run in runs if run not in states]
    if unknown:
        latest = latest_runs(database, 1)
        have = f"its runs go up to {latest[0]}" if latest else "it holds no runs"
        raise DatabaseError(
            f"database {database.location} has no run {', '.join(map(str, unknown))}: {have}. Nothing was cancelled"
        )
    _cancel(database, runs=runs)
    for run, state in sorted(states.items()):
        if state.ended:
            output.print(f"run {run} has ended ({state}), and stays as it is")
        elif state is RunState.CANCELLED:
            output.print(f"run {run} was cancelled before")


def _cancel_many(database: Database, grid: GridRuns | None, *, ask: bool) -> None:
    from npas_bench.database.labels import printable
    from npas_bench.database.queries.counts import count_states
    from npas_bench.database.states import CANCELLABLE

    counts = count_states(database, grid=grid)
    if grid is not None and not counts:
        raise grid.without_runs(database)
    there = {state: sum(states.get(state, 0) for states in counts.values()) for state in CANCELLABLE}
    where = f"grid {printable(grid.name)}" if grid is not None else f"all of {database.location}"
    if ask and any(there.values()) and not typer.confirm(f"cancel {_said(there)} of {where}?"):
        output.print("nothing was cancelled")
        raise typer.Exit(1)
    _cancel(database, grid=grid)


def _cancel(database: Database, *, runs: list[int] | None = None, grid: GridRuns | None = None) -> None:
    from npas_bench.database.runs import cancel_runs
    from npas_bench.database.states import CANCELLABLE

    cancelled = dict.fromkeys(CANCELLABLE, 0)
    while True:
        # It is tried again until nothing is left: a driver may have moved a run to a state that was tried before.
        some = {state: cancel_runs(database, runs=runs, grid=grid, states=(state,)) for state in CANCELLABLE}
        for state, count in some.items():
            cancelled[state] += count
        if not any(some.values()):
            break
    if any(cancelled.values()):
        output.print(f"cancelled {_said(cancelled)}; the npas-bench run command goes on with them", soft_wrap=True)
    else:
        output.print("nothing to cancel: no such run is pending, running or stale")


def _said(counts: Mapping[RunState, int]) -> str:
    said = [f"{count:,} {state}" for state, count in counts.items() if count]
    return f"{', '.join(said)} {'run' if sum(counts.values()) == 1 else 'runs'}"
