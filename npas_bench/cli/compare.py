"""The command `npas-bench compare`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import grid_names, task_names
from npas_bench.cli.console import output
from npas_bench.errors import NpasBenchError, UnknownName
from npas_bench.leaderboard.which import Which

if TYPE_CHECKING:
    from npas_bench.cells.grid import Grid
    from npas_bench.database.queries.papers import PaperNumber
    from npas_bench.leaderboard.reading import Choice
    from npas_bench.leaderboard.sources import Source


class CompareFormat(StrEnum):
    """The formats that a comparison is written in."""

    table = "table"
    csv = "csv"
    json = "json"


def compare(
    first: Annotated[str | None, typer.Argument(metavar="METHOD", help="Method, as the board names it.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="METHOD", help="Method to compare it with.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="NAME|FILE",
            help="Show the papers' numbers that this grid repeats.",
            autocompletion=grid_names,
        ),
    ] = None,
    printed: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="TABLE", help="Show this table of a paper, as 'plummer2022npas Table 5'. Repeatable."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Compare on this task only.", autocompletion=task_names)] = None,
    architecture: Annotated[str | None, typer.Option(help="Compare on this architecture only.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Compare methods by this metric instead of the primary one.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=choose.MOST_ROWS,
            help="Look at the N tables with the newest results only [default: 500].",
        ),
    ] = None,
    source: Annotated[Which, typer.Option(help="Look at your own runs, the published board, or both.")] = Which.all,
    form: Annotated[
        CompareFormat, typer.Option("--format", help="Format: table for people, csv and json for programs.")
    ] = CompareFormat.table,
    db: choose.Database = None,
) -> None:
    """Compare two methods over everything that both were run on, or results with the papers' numbers."""
    from npas_bench.leaderboard.reading import MOST_COMPARED, Choice
    from npas_bench.leaderboard.sources import open_sources

    if first is not None and second is None:
        raise NpasBenchError("name two methods, as in npas-bench compare ssn reduced; or none, for the papers' numbers")
    if first is not None and (grid is not None or printed):
        raise NpasBenchError("--grid and --table choose papers' numbers: leave them out where methods are compared")
    limit = limit or MOST_COMPARED
    with open_sources(choose.database_to_read(db, source), source) as sources:
        if not sources:
            raise NpasBenchError("there are no results to compare: npas-bench run --grid lowbudget makes some")
        if first is not None and second is not None:
            choice = Choice(
                task=task, architecture=architecture, metric=metric, limit=limit, methods=frozenset((first, second))
            )
            _methods(sources, first, second, choice, form)
        else:
            rows = _rows(sources, grid, printed, task, architecture)
            _papers(sources, rows, form, limit, all_rows=bool(grid or printed))


def _methods(sources: list[Source], first: str, second: str, choice: Choice, form: CompareFormat) -> None:
    import json

    from npas_bench.cli.terminal.comparisons import print_comparison
    from npas_bench.database.queries.results import stored_methods
    from npas_bench.leaderboard.comparison import head_to_head
    from npas_bench.leaderboard.files import comparison_csv
    from npas_bench.leaderboard.reading import read_tables
    from npas_bench.leaderboard.record import FORMAT, comparison_record

    known = set().union(*(stored_methods(source.database) for source in sources))
    for name in (first, second):
        if name not in known:
            raise UnknownName("method", name, known, remedy="of those with results")
    found = {}
    for source in sources:
        tables = read_tables(source.database, choice)
        found[source.name] = head_to_head(tables.shown, first, second, unseen=tables.total - tables.looked_at)
    if form is CompareFormat.json:
        boards = [{"source": source, **comparison_record(one)} for source, one in found.items()]
        typer.echo(json.dumps({"format": FORMAT, "boards": boards}, indent=2, allow_nan=False))
    elif form is CompareFormat.csv:
        typer.echo(comparison_csv(found).rstrip("\n"))
    else:
        for source in sources:
            print_comparison(output, source.title, found[source.name])


def _rows(
    sources: list[Source], grid: str | None, printed: list[str] | None, task: str | None, architecture: str | None
) -> list[PaperNumber]:
    """The papers' numbers that were asked for."""
    from npas_bench.database.queries.papers import read_papers
    from npas_bench.leaderboard.papers import choose_rows

    rows = read_papers(sources[-1].database)
    if grid is not None:
        rows = _beside(rows, grid)
    if printed:
        rows = choose_rows(rows, printed)
    for kind, name in (("dataset", task), ("architecture", architecture)):
        if name is not None:
            known = {str(getattr(row, kind)) for row in rows}
            if name not in known:
                raise UnknownName(kind, name, known, remedy="of those in these tables")
            rows = [row for row in rows if getattr(row, kind) == name]
    return rows


def _beside(rows: list[PaperNumber], name: str) -> list[PaperNumber]:
    """The numbers that a grid stands beside, of its own tasks and architectures."""
    from npas_bench.cells.grid import read_grid
    from npas_bench.leaderboard.papers import choose_rows

    grid = read_grid(name)
    if not grid.beside:
        raise NpasBenchError(f"grid {name} names no papers' tables that it stands beside: choose some with --table")
    return [row for row in choose_rows(rows, grid.beside) if _in_grid(row, grid)]


def _in_grid(row: PaperNumber, grid: Grid) -> bool:
    return any(
        row.dataset in block.tasks and (block.architectures is None or row.architecture in block.architectures)
        for block in grid.blocks
    )


def _papers(sources: list[Source], rows: list[PaperNumber], form: CompareFormat, limit: int, *, all_rows: bool) -> None:
    from npas_bench.cli.terminal.comparisons import print_papers
    from npas_bench.leaderboard.files import lines_csv, lines_json
    from npas_bench.leaderboard.papers import measured, metrics_of, set_beside
    from npas_bench.leaderboard.reading import Choice, read_tables

    tasks = sorted({row.dataset for row in rows})
    found = {
        source.name: {
            metric: [
                table
                for task in tasks
                for table in read_tables(source.database, Choice(task=task, metric=metric, limit=limit)).shown
            ]
            for metric in metrics_of(rows)
        }
        for source in sources
    }
    lines = set_beside(rows, found)
    shown = lines if all_rows else measured(lines)
    if form is CompareFormat.json:
        typer.echo(lines_json(shown))
    elif form is CompareFormat.csv:
        typer.echo(lines_csv(shown).rstrip("\n"))
    else:
        print_papers(output, shown)
