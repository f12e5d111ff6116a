"""The command `npas-bench runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from npas_bench.database.queries.listing import RunLine


def runs(
    state: Annotated[list[RunState] | None, typer.Option(help="List runs in this state. Repeatable.")] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="List runs of this task.")] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="List runs of this method.")] = None,
    grid: Annotated[str | None, typer.Option(metavar="NAME", help="List runs of this grid's cells.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="List the N newest runs.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    db: choose.Database = None,
) -> None:
    """List runs, the newest first, with their numbers, by which show, cancel, reproduce and weights know them."""
    from npas_bench.database.access import opened
    from npas_bench.database.opening import locate
    from npas_bench.database.queries.listing import recent_runs

    location = locate(db)
    wanted = choose.runs_of_grid(grid, location)
    with opened(location) as database:
        found = recent_runs(database, states=state, grid=wanted, task=task, method=method, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        _print_json(shown)
        return
    if not shown:
        output.print(f"no such run in {location}", soft_wrap=True)
        return
    for line in shown:
        _print(line)
    if len(found) > limit:
        output.print(f"There are older ones: --limit {2 * limit} shows more.", style="dim", soft_wrap=True)


def _print(line: RunLine) -> None:
    from npas_bench.leaderboard.texts import number_text

    result = f" · {line.metric} {number_text(line.value, line.unit or '')} {line.unit}".rstrip() if line.metric else ""
    output.print(f"{line.run:>6}  {line.state:<11}  {line.cell}{result}", soft_wrap=True)
    if line.message:
        output.print(f"        {line.message.splitlines()[0]}", style="dim", soft_wrap=not output.is_terminal)


def _print_json(lines: list[RunLine]) -> None:
    import json

    records = [line._asdict() | {"finished": line.finished.isoformat() if line.finished else None} for line in lines]
    typer.echo(json.dumps(records, indent=1))
