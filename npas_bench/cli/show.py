"""`npas-bench show`."""

from __future__ import annotations

from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output


def show(
    run: Annotated[int, typer.Argument(metavar="RUN", help="The run's number.")],
    db: choose.Database = None,
) -> None:
    """Show all that is known of a run: result, ledger, cost, provenance, and the command that repeats it."""
    from npas_bench.cli.terminal.boards import print_run
    from npas_bench.database.opening import locate, open_for_reading, reaching
    from npas_bench.database.queries.results import find_run, latest_runs
    from npas_bench.errors import DatabaseError

    location = locate(db)
    with reaching(location):
        database = open_for_reading(location)
        if database is None:
            raise DatabaseError(f"database {location} does not exist: run something first, or name another with --db")
        row = find_run(database, run)
        latest = latest_runs(database, 1)
        database.close()
    if row is None:
        have = f"its runs go up to {latest[0]}" if latest else "it holds no runs"
        raise DatabaseError(f"database {location} has no run {run}: {have}")
    print_run(output, row)
