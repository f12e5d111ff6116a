"""The command `npas-bench runs`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import grid_names, method_names, task_names
from npas_bench.cli.console import output
from npas_bench.database.states import RunState
from npas_bench.errors import NpasBenchError, UnknownName

if TYPE_CHECKING:
    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database
    from npas_bench.database.queries.listing import RunLine

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def runs(
    state: Annotated[list[RunState] | None, typer.Option(help="List runs in this state. Repeatable.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="List runs of this task.", autocompletion=task_names)
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="List runs of this method.", autocompletion=method_names)
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="NAME", help="List runs of this grid's cells.", autocompletion=grid_names)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BUDGET", help="List runs at this budget, such as 10% or 7756.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="List runs that ended or began since then: 30m, 12h, 7d, 2w or 2026-11-25."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=choose.MOST_ROWS, help="List the N newest runs.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    db: choose.Database = None,
) -> None:
    """List runs, the newest first, with their numbers, by which show, cancel, reproduce and weights know them."""
    from npas_bench.budget import Budget
    from npas_bench.database.access import opened
    from npas_bench.database.opening import locate
    from npas_bench.database.queries.listing import recent_runs

    location, now = locate(db), datetime.now(UTC)
    wanted = choose.runs_of_grid(grid, location)
    at = None if budget is None else Budget.parse(budget)
    earliest = None if since is None else _moment(since, now)
    with opened(location) as database:
        any_run = bool(recent_runs(database, limit=1))
        if any_run:
            _check_names(database, {"task": task, "method": method}, wanted)
        found = recent_runs(
            database,
            states=state,
            grid=wanted,
            task=task,
            method=method,
            budget=at,
            since=earliest,
            limit=limit + 1,
        )
        if at is not None and any_run and not recent_runs(database, budget=at, limit=1):
            raise _no_such_budget(database, at)
        # Within the block, so that a value that cannot be printed is told as damage of the database.
        if as_json:
            _print_json(found[:limit])
        elif not found:
            output.print(f"no such run in {location}", soft_wrap=True)
        else:
            _print_lines(found, limit, now)


def _check_names(database: Database, names: dict[str, str | None], grid: GridRuns | None) -> None:
    """Refuse a name that no run has, in a database with runs.

    Raises:
        NpasBenchError: if no run has the name; the message offers the names that runs have.
    """
    from npas_bench.database.queries.listing import recent_runs
    from npas_bench.database.queries.results import stored_names

    for kind, name in names.items():
        known = stored_names(database, kind) if name is not None else set()
        if name is not None and name not in known:
            raise UnknownName(kind, name, known, remedy="of those with runs")
    if grid is not None and not recent_runs(database, grid=grid, limit=1):
        raise grid.without_runs(database)


def _no_such_budget(database: Database, budget: object) -> NpasBenchError:
    from npas_bench.database.queries.listing import stored_budgets

    there = stored_budgets(database)
    return NpasBenchError(f"no run has a budget of {budget}: there are runs at {', '.join(there) or 'none'}")


def _moment(written: str, now: datetime) -> datetime:
    """The moment that a user names, by how long it is ago or by its date, which is taken in the local time zone.

    Raises:
        NpasBenchError: if it is neither.
    """
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", written, re.ASCII)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NpasBenchError(
            f"--since '{written}' is no moment: write how long ago it is, as 30m, 12h, 7d or 2w, or a date, as "
            f"{now:%Y-%m-%d} or {now:%Y-%m-%dT%H:%M}"
        ) from None


def _print_lines(found: list[RunLine], limit: int, now: datetime) -> None:
    for line in found[:limit]:
        _print(line, now)
    if len(found) > limit:
        output.print(f"There are older ones: --limit {2 * limit} shows more.", style="dim", soft_wrap=True)


def _print(line: RunLine, now: datetime) -> None:
    from npas_bench.leaderboard.texts import number_text

    result = f" · {line.metric} {number_text(line.value, line.unit or '')} {line.unit}".rstrip() if line.metric else ""
    age = f" · {_age(line.moment, now)} ago" if line.moment else ""
    output.print(f"{line.run:>6}  {line.state:<11}  {line.cell}{result}{age}", soft_wrap=True)
    if line.message:
        output.print(f"        {line.message.splitlines()[0]}", style="dim", soft_wrap=not output.is_terminal)


def _age(moment: datetime, now: datetime) -> str:
    seconds = max(0, round((now - moment).total_seconds()))
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit:,} {name}"
    return f"{seconds} s"


def _print_json(lines: list[RunLine]) -> None:
    import json

    times = ("finished", "moment")
    records = [
        {key: value.isoformat() if key in times and value else value for key, value in line._asdict().items()}
        for line in lines
    ]
    typer.echo(json.dumps(records, indent=1))
