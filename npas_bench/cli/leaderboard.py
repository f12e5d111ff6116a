"""`npas-bench leaderboard`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output


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
    db: choose.Database = None,
) -> None:
    """Show results: your own runs, and the published board that comes with the package."""
    from npas_bench.dashboard.terminal import print_board, print_legend
    from npas_bench.errors import UnknownName
    from npas_bench.leaderboard.published import open_published, published_location
    from npas_bench.leaderboard.standings import tabulate
    from npas_bench.store.database import Store, locate, open_for_reading, reaching
    from npas_bench.store.results import count_unfinished, read_results, stored_names

    shown = False
    known: dict[str, set[str]] = {"task": set(), "architecture": set(), "metric": set()}

    def section(store: Store | None, heading: str) -> None:
        nonlocal shown
        if store is None:
            return
        for kind, names in stored_names(store).items():
            known[kind] |= names
        tables = tabulate(read_results(store, task=task, architecture=architecture, metric=metric))
        if tables:
            print_board(output, heading, tables)
            output.print()
            shown = True

    if source is not BoardSource.published:
        location = locate(db)
        with reaching(location):
            mine = open_for_reading(location)
            section(mine, f"Your runs ({location})")
            waiting = count_unfinished(mine) if mine else 0
            if mine:
                mine.close()
        if waiting:
            output.print(f"{waiting} cells are not finished; the command that started them goes on with them\n")
    if source is not BoardSource.mine:
        published = published_location()
        if published is not None:
            with reaching(published):
                store = open_published()
                section(store, f"Published board ({published.path.name if published.path else published})")
                if store:
                    store.close()
    if shown:
        print_legend(output)
        return
    for kind, name in (("task", task), ("architecture", architecture), ("metric", metric)):
        if name is not None and known[kind] and name not in known[kind]:
            raise UnknownName(kind, name, known[kind], remedy="of those with results")
    if not shown:
        chosen = [
            f"{name} {value}"
            for name, value in (("task", task), ("architecture", architecture), ("metric", metric))
            if value
        ]
        what = f" for {', '.join(chosen)}" if chosen else ""
        output.print(f"no results yet{what}: npas-bench run --grid lowbudget makes some", soft_wrap=True)
