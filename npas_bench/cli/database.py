"""The commands `npas-bench db`, which look after a results database."""

from __future__ import annotations

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.cli.help import WholeHelp

database_app = typer.Typer(
    cls=WholeHelp,
    help="Upgrade the schema of a results database, or check what it holds.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@database_app.command("upgrade")
def upgrade_database(db: choose.Database = None) -> None:
    """Bring a database to the schema of this version; of a file, a copy of the old state is kept beside it."""
    from npas_bench.database.opening import locate, upgrade
    from npas_bench.leaderboard.paper_list import paper_list

    location = locate(db)
    before, after, copy = upgrade(location, paper_list())
    if before == after:
        said = f"database {location} has schema {after} already: nothing to do"
    else:
        kept = f"; as it was, it is {location.shown(copy)}" if copy else ""
        said = f"database {location} brought from schema {before} to {after}{kept}"
    output.print(said, soft_wrap=True)


@database_app.command("check")
def check_database(db: choose.Database = None) -> None:
    """Look for damage; the exit code is 0 if there is none, 1 if there is some, 2 if the database cannot be read."""
    from npas_bench.database.access import opened
    from npas_bench.database.check import find_faults
    from npas_bench.database.labels import printable
    from npas_bench.database.opening import locate

    location = locate(db)
    with opened(location) as database:
        faults = find_faults(database)
    for fault in faults:
        output.print(printable(f"{fault.what}. {fault.remedy}"), soft_wrap=True)
    if faults:
        raise typer.Exit(1)
    output.print(f"database {location}: all is well", soft_wrap=True)
