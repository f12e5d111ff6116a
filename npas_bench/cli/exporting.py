"""The command `npas-bench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import grid_names, task_names
from npas_bench.cli.console import errors


def export_runs(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, or - for standard output.")],
    grid: Annotated[
        str | None,
        typer.Option("--grid", metavar="NAME", help="Export only runs of this grid.", autocompletion=grid_names),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="NAME", help="Export only runs of this task.", autocompletion=task_names),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    db: choose.Database = None,
) -> None:
    """Write finished runs to a file of JSON lines, for another database or the published board."""
    from npas_bench.database.access import opened
    from npas_bench.database.exchange.files import export_records, print_records, write_records
    from npas_bench.database.opening import locate

    location = locate(db)
    wanted = choose.runs_of_grid(grid, location)
    with opened(location) as database:
        lines = export_records(database, grid=wanted, task=task)
        count = print_records(lines) if str(out) == "-" else write_records(lines, out, overwrite=force)
    errors.print(f"{out}: {count:,} runs", soft_wrap=True)
