"""The command `npas-bench leaderboard`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import method_names, task_names
from npas_bench.cli.console import output
from npas_bench.errors import NpasBenchError, UnknownName
from npas_bench.leaderboard.which import Which

if TYPE_CHECKING:
    from npas_bench.leaderboard.reading import Choice, Tables
    from npas_bench.leaderboard.sources import Source
    from npas_bench.leaderboard.standings import BoardTable


# How many tables a message names.
_TOLD = 5


class BoardFormat(StrEnum):
    """The formats that a board is written in."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


def leaderboard(
    task: Annotated[str | None, typer.Option(help="Show only this task.", autocompletion=task_names)] = None,
    architecture: Annotated[str | None, typer.Option(help="Show only this architecture.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Show this metric [default: the primary one of each task].")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Show only rows whose method and options contain this.", autocompletion=method_names),
    ] = None,
    from_budget: Annotated[
        str | None,
        typer.Option("--from-budget", metavar="BUDGET", help="Leave out smaller budgets: 5%, 3.65M, 365000."),
    ] = None,
    to_budget: Annotated[
        str | None, typer.Option("--to-budget", metavar="BUDGET", help="Leave out larger budgets.")
    ] = None,
    source: Annotated[Which, typer.Option(help="Show your own runs, the published board, or both.")] = Which.all,
    limit: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=choose.MOST_ROWS,
            help="Show at most N tables of each, which are those with the newest results.",
        ),
    ] = 10,
    form: Annotated[
        BoardFormat, typer.Option("--format", help="Format: table for people, the others for papers and programs.")
    ] = BoardFormat.table,
    db: choose.Database = None,
) -> None:
    """Show results: your own runs, and the published board that comes with the package."""
    from npas_bench.budget import Budget
    from npas_bench.leaderboard.reading import Choice, read_tables
    from npas_bench.leaderboard.sources import open_sources
    from npas_bench.leaderboard.standings import only_methods

    choice = Choice(
        task=task,
        architecture=architecture,
        metric=metric,
        lowest=None if from_budget is None else Budget.parse(from_budget),
        highest=None if to_budget is None else Budget.parse(to_budget),
        limit=limit,
    )
    wanted = {"task": task, "architecture": architecture, "metric": metric}
    with open_sources(choose.database_to_read(db, source), source) as sources:
        _check_names(wanted, sources)
        boards = []
        for one in sources:
            tables = read_tables(one.database, choice, beside=[other.database for other in sources if other is not one])
            boards.append((one, only_methods(tables.shown, method), tables))
        _check_method(method, boards)
        if not any(shown for _, shown, _ in boards):
            _check_choice(choice, sources)
        if form is BoardFormat.table:
            _print(boards, wanted)
        else:
            _write(form, [(one, shown) for one, shown, _ in boards])


def _print(boards: list[tuple[Source, list[BoardTable], Tables]], wanted: dict[str, str | None]) -> None:
    from npas_bench.cli.terminal.boards import print_board, print_legend
    from npas_bench.database.queries.results import count_unfinished

    shown = False
    for one, rows, tables in boards:
        if rows:
            print_board(output, one.title, rows)
            if tables.total > tables.looked_at:
                output.print(_more(tables.looked_at, tables.total), style="yellow", soft_wrap=True)
            output.print()
            shown = True
        if tables.without:
            output.print(f"{tables.without:,} tables of {one.name} hold no {wanted['metric']}", highlight=False)
        waiting = count_unfinished(one.database)
        if waiting:
            output.print(f"{waiting:,} cells are not finished; the command that started them goes on with them\n")
    if shown:
        print_legend(output)
    else:
        chosen = [f"{kind} {name}" for kind, name in wanted.items() if name is not None]
        what = f" for {', '.join(chosen)}" if chosen else ""
        output.print(f"no results yet{what}: npas-bench run --grid lowbudget makes some", soft_wrap=True)


def _write(form: BoardFormat, boards: list[tuple[Source, list[BoardTable]]]) -> None:
    from npas_bench.database.queries.papers import read_papers
    from npas_bench.leaderboard.files import board_csv, board_json, board_latex, board_markdown

    if form is BoardFormat.json:
        text = board_json([(one.name, tables, read_papers(one.database)) for one, tables in boards])
    elif form is BoardFormat.csv:
        text = board_csv([(one.name, tables) for one, tables in boards])
    else:
        write = board_markdown if form is BoardFormat.markdown else board_latex
        text = write([(one.title, tables) for one, tables in boards])
    typer.echo(text.rstrip("\n"))


def _more(shown: int, total: int) -> str:
    return (
        f"{shown} of {total:,} tables, those with the newest results. "
        f"--task and --architecture choose; --limit {total} shows all"
    )


def _check_method(wanted: str | None, boards: list[tuple[Source, list[BoardTable], Tables]]) -> None:
    """Refuse a method that no table has, unless there are no tables.

    Raises:
        UnknownName: if no method's name holds the text; the message offers those that the tables have.
    """
    bands = [band for _, _, tables in boards for table in tables.shown for band in table.bands]
    known = {standing.label for band in bands for standing in band.standings}
    if wanted is not None and known and not any(shown for _, shown, _ in boards):
        raise UnknownName("method", wanted, known, remedy="of those with results in these tables")


def _check_choice(choice: Choice, sources: list[Source]) -> None:
    """Refuse a choice that leaves nothing of the results that there are, unless some of them are still to come.

    Raises:
        NpasBenchError: if it does; the message says which tables and budgets there are.
    """
    from dataclasses import replace

    from npas_bench.database.queries.results import count_unfinished
    from npas_bench.leaderboard.reading import Choice, read_tables

    chosen = _said(choice)
    if not chosen or any(count_unfinished(one.database) for one in sources):
        return
    # What lies nearest to the choice is told: the tables of its task, or, if it has none, all.
    for wider in (
        replace(choice, architecture=None, lowest=None, highest=None, metric=None),
        Choice(limit=choice.limit),
    ):
        there = [table for one in sources for table in read_tables(one.database, wider).shown]
        if there:
            told = dict.fromkeys(map(_outline, there))
            more = f" and {len(told) - _TOLD:,} more" if len(told) > _TOLD else ""
            raise NpasBenchError(f"no results for {chosen}: there are some of {'; '.join([*told][:_TOLD])}{more}")


def _outline(table: BoardTable) -> str:
    smallest, largest = table.bands[0].budget, table.bands[-1].budget
    return f"{table.task} {table.architecture} at {smallest:,} to {largest:,} parameters"


def _said(choice: Choice) -> str:
    """A choice of results in words; empty if nothing is left out."""
    chosen = {
        "task": choice.task,
        "architecture": choice.architecture,
        "metric": choice.metric,
        "budgets from": choice.lowest,
        "budgets to": choice.highest,
    }
    return ", ".join(f"{kind} {value}" for kind, value in chosen.items() if value is not None)


def _check_names(wanted: dict[str, str | None], sources: list[Source]) -> None:
    """Refuse a name that no result has, unless there are no results at all.

    Raises:
        UnknownName: if no result has the name; the message offers the nearest names that have results.
    """
    from npas_bench.database.queries.results import has_name, stored_names

    databases = [source.database for source in sources]
    for kind, name in wanted.items():
        if name is None or any(has_name(database, kind, name) for database in databases):
            continue
        known = set().union(*(stored_names(database, kind) for database in databases))
        if known:
            raise UnknownName(kind, name, known, remedy="of those with results")
