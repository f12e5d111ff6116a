"""The command `npas-bench status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.completion import grid_names
from npas_bench.cli.console import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.database.queries.status import Status

_LOOK_SECONDS = 2.0


def status(
    grid: Annotated[
        str | None, typer.Option("--grid", metavar="NAME|FILE", help="Only this grid.", autocompletion=grid_names)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look every 2 s until nothing is left to run.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch, print a line whenever something has changed.")
    ] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, max=choose.MOST_ROWS, help="List at most N of the running cells.")
    ] = 20,
    db: choose.Database = None,
) -> None:
    """Show how runs are getting on: the number in each state, running cells, and drivers at work.

    Nothing is written, and no driver is disturbed.
    """
    from npas_bench.database.access import opened
    from npas_bench.database.opening import locate
    from npas_bench.database.patience import patiently
    from npas_bench.database.queries.status import read_status

    location = locate(db)
    wanted = choose.runs_of_grid(grid, location)
    with opened(location) as database:

        def look() -> Status:
            found = read_status(database, grid=wanted, limit=limit)
            # As long as a connection is open, a driver that ends cannot merge its log into the database's one file.
            database.engine.dispose()
            return found

        try:
            first = patiently(look)
            if wanted is not None and not first.counts:
                raise wanted.without_runs(database)
            if watch:
                _watch(first, lambda: patiently(look), str(location), as_json=as_json)
            elif as_json:
                _print_json(first)
            else:
                _print(first, str(location))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _print(status: Status, database: str) -> None:
    from npas_bench.cli.terminal.status import print_status

    if not status.counts:
        output.print(f"database {database} holds no runs", soft_wrap=True)
    else:
        print_status(output, status, database)


def _print_json(status: Status, indent: int | None = 1) -> None:
    import json

    from npas_bench.cli.terminal.status import status_record

    # The console would wrap the lines. JSON escapes what is not ASCII, and with it terminal sequences.
    typer.echo(json.dumps(status_record(status), indent=indent))


def _watch(status: Status, look: Callable[[], Status], database: str, *, as_json: bool) -> None:
    if not as_json and output.is_terminal and not output.is_dumb_terminal:
        _watch_live(status, look, database)
    else:
        _watch_lines(status, look, as_json=as_json)


def _watch_live(status: Status, look: Callable[[], Status], database: str) -> None:
    import time

    from rich.live import Live

    from npas_bench.cli.terminal.status import draw_status

    with Live(draw_status(status, database), console=output, auto_refresh=False) as live:
        while status.lively:
            time.sleep(_LOOK_SECONDS)
            status = look()
            live.update(draw_status(status, database), refresh=True)


def _watch_lines(status: Status, look: Callable[[], Status], *, as_json: bool) -> None:
    import time

    from npas_bench.cli.terminal.status import status_lines

    said: dict[str, str] = {}
    told: Status | None = None
    while True:
        if as_json:
            if told is None or _content(status) != _content(told):
                _print_json(status, indent=None)
                told = status
        else:
            for grid, line in status_lines(status).items():
                if said.get(grid) != line:
                    typer.echo(f"{status.moment.astimezone():%H:%M:%S} {line}")
                    said[grid] = line
        if not status.lively:
            return
        time.sleep(_LOOK_SECONDS)
        status = look()


def _content(status: Status) -> Any:
    """The status without what changes with time alone."""
    drivers = [driver._replace(heartbeat=driver.started) for driver in status.drivers]
    return status._replace(moment=None, drivers=drivers)  # type: ignore[arg-type]
