"""`npas-bench leaderboard`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.errors import UnknownName

if TYPE_CHECKING:
    from npas_bench.store.database import Store


class BoardSource(StrEnum):
    """Whose results to show."""

    all = "all"
    mine = "mine"
    published = "published"


def leaderboard(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Only this architecture.")] = None,
    metric: Annotated[str | None, typer.Option(help="This metric [default: each task's primary one].")] = None,
    source: Annotated[BoardSource, typer.Option(help="Your own runs, the published board, or both.")] = BoardSource.all,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Show at most N tables of each: those with the newest results.")
    ] = 10,
    from_budget: Annotated[
        int | None, typer.Option("--from-budget", metavar="N", min=1, help="Leave out budgets below N parameters.")
    ] = None,
    db: choose.Database = None,
) -> None:
    """Show results: your own runs, and the published board that comes with the package."""
    from contextlib import ExitStack

    from npas_bench.dashboard.terminal import print_board, print_legend
    from npas_bench.leaderboard.published import open_published, published_location
    from npas_bench.leaderboard.reading import read_tables
    from npas_bench.store.database import locate, open_for_reading, reaching
    from npas_bench.store.results import count_unfinished

    location, published = locate(db), published_location()
    with ExitStack() as stack:
        stores: list[tuple[str, Store]] = []
        if source is not BoardSource.published:
            stack.enter_context(reaching(location))
            mine = open_for_reading(location)
            if mine is not None:
                stack.callback(mine.close)
                stores.append((f"Your runs ({location})", mine))
        if source is not BoardSource.mine and published is not None:
            stack.enter_context(reaching(published))
            shipped = open_published()
            if shipped is not None and shipped.location.path is not None:
                stack.callback(shipped.close)
                stores.append((f"Published board ({shipped.location.path.name})", shipped))
        wanted = {"task": task, "architecture": architecture, "metric": metric}
        _check_names(wanted, [store for _, store in stores])
        shown = False
        for heading, store in stores:
            tables = read_tables(
                store, task=task, architecture=architecture, metric=metric, limit=limit, smallest=from_budget
            )
            if tables.shown:
                print_board(output, heading, tables.shown)
                if tables.total > len(tables.shown):
                    output.print(_more(len(tables.shown), tables.total), style="yellow", soft_wrap=True)
                output.print()
                shown = True
            waiting = count_unfinished(store)
            if waiting:
                output.print(f"{waiting:,} cells are not finished; the command that started them goes on with them\n")
    if shown:
        print_legend(output)
    else:
        chosen = [f"{kind} {name}" for kind, name in wanted.items() if name is not None]
        what = f" for {', '.join(chosen)}" if chosen else ""
        output.print(f"no results yet{what}: npas-bench run --grid lowbudget makes some", soft_wrap=True)


def _more(shown: int, total: int) -> str:
    return (
        f"{shown} of {total:,} tables, those with the newest results. "
        f"--task and --architecture choose; --limit {total} shows all"
    )


def _check_names(wanted: dict[str, str | None], stores: list[Store]) -> None:
    """Refuse a name that no result has, unless there are no results at all.

    Raises:
        UnknownName: with the nearest of the names that have results.
    """
    from npas_bench.store.results import has_name, stored_names

    for kind, name in wanted.items():
        if name is None or any(has_name(store, kind, name) for store in stores):
            continue
        known = set().union(*(stored_names(store, kind) for store in stores))
        if known:
            raise UnknownName(kind, name, known, remedy="of those with results")
