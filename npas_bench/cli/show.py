"""The command `npas-bench show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output

if TYPE_CHECKING:
    from npas_bench.database.opening import Location
    from npas_bench.database.queries.reproductions import Related
    from npas_bench.database.schema import RunRow


class FoundRun(NamedTuple):
    """A run that a user named.

    Attributes:
        row: the run, with its cell and all that it measured.
        related: the runs that it has to do with.
        claimed: whether only a file from elsewhere says what its data is.
    """

    row: RunRow
    related: Related
    claimed: bool


def show(
    run: choose.RunNumber,
    published: Annotated[bool, typer.Option("--published", help="Show a run of the published board.")] = False,
    db: choose.Database = None,
) -> None:
    """Show everything about a run: its result, parameters, cost and provenance, and the command that repeats it."""
    from npas_bench.cli.terminal.boards import print_run
    from npas_bench.database.damage import reaching
    from npas_bench.database.opening import locate

    location = published_board() if published else locate(db)
    found = read_run(location, run)
    with reaching(location):
        print_run(output, found.row, found.related, claimed=found.claimed)


def published_board() -> Location:
    """Where the published board is.

    Raises:
        DatabaseError: if this installation came without it.
    """
    from npas_bench.errors import DatabaseError
    from npas_bench.leaderboard.published import published_location

    location = published_location()
    if location is None:
        raise DatabaseError("this installation has no published board: name a database with --db")
    return location


def read_run(location: Location, run: int) -> FoundRun:
    """A run of a database.

    Raises:
        DatabaseError: if the database does not exist, or has no run of that number.
    """
    from npas_bench.database.access import opened
    from npas_bench.database.queries.reproductions import related_runs
    from npas_bench.database.queries.results import find_run, latest_runs
    from npas_bench.errors import DatabaseError
    from npas_bench.leaderboard.published import is_published, published_location

    with opened(location, immutable=location == published_location()) as database:
        row = find_run(database, run)
        if row is not None:
            claimed = row.origin is not None and not is_published(location)
            return FoundRun(row, related_runs(database, row), claimed)
        latest = latest_runs(database, 1)
    have = f"its runs go up to {latest[0]}" if latest else "it holds no runs"
    raise DatabaseError(f"database {location} has no run {run}: {have}")
