"""The command `npas-bench import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output


def import_runs(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files that npas-bench export wrote.")],
    db: choose.Database = None,
) -> None:
    """Add the runs in files of JSON lines: all of them once, or none of them if a line is wrong."""
    from npas_bench.database.access import Access, opened
    from npas_bench.database.exchange.files import check_files
    from npas_bench.database.exchange.importing import import_files
    from npas_bench.database.opening import locate
    from npas_bench.leaderboard.paper_list import paper_list
    from npas_bench.leaderboard.published import refuse_published

    location = locate(db)
    refuse_published(location)
    # The files are checked first, so that a file that is refused makes no database.
    checked = check_files(files)
    with opened(location, Access.IMPORTING, papers=paper_list()) as database:
        imported = import_files(database, checked)
    said = [f"{imported.added:,} runs added"]
    if imported.replaced:
        said.append(f"{imported.replaced:,} replaced by a later attempt")
    if imported.known:
        said.append(f"{imported.known:,} were there already")
    if imported.local:
        said.append(f"{imported.local:,} left out for this database's own")
    output.print(f"{', '.join(said)}. Results in {location}", soft_wrap=True)
