"""The progress of runs: on a terminal that is 80 columns wide, as lines of text, and as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from npas_bench.database.labels import printable, short
from npas_bench.database.queries.status import STATES
from npas_bench.database.states import RunState
from npas_bench.leaderboard.texts import counts_text
from npas_bench.runner.progress import format_seconds

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console, RenderableType

    from npas_bench.database.queries.status import Driver, Status, UnderWay

_STYLES = {RunState.FAILED: "red", RunState.STALE: "yellow", RunState.RUNNING: "green"}
_NO_GRID = "(no grid)"


def draw_status(status: Status, database: str) -> RenderableType:
    """Draw the whole status for a terminal, to be drawn again and again in place.

    Args:
        status: the status to draw.
        database: the name of the database, for the heading and for commands.
    """
    return Group(*_parts(status, database), *(Text(line, style="yellow") for line in _remedies(status, database)))


def print_status(console: Console, status: Status, database: str) -> None:
    """Print the whole status once, with each command on one line, however long it is."""
    console.print(Group(*_parts(status, database)))
    for line in _remedies(status, database):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def _parts(status: Status, database: str) -> list[RenderableType]:
    at_work = sum(driver.alive for driver in status.drivers)
    drivers = f"{at_work or 'no'} {'driver' if at_work == 1 else 'drivers'} at work"
    parts: list[RenderableType] = [_line(f"{database} · {drivers}", "bold"), Text(), _counts(status), Text()]
    if status.under_way:
        parts.append(_under_way(status))
        if status.hidden:
            parts.append(_line(f"and {status.hidden:,} more: --limit shows more of them", "dim"))
        parts.append(Text())
    return parts + [_driver(number, driver, status.moment) for number, driver in enumerate(status.drivers, start=1)]


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="ellipsis", no_wrap=True)


def _table(gap: int = 2) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")


def _counts(status: Status) -> Table:
    states = [state for state in STATES if any(counts.get(state) for counts in status.counts.values())]
    # With a column for every state, little room is left for the name of the grid.
    narrow = len(states) > 5
    table = _table(1 if narrow else 2)
    # Only this column may wrap, so rich narrows it first; its text is cut instead of wrapped.
    table.add_column("Grid")
    for state in states:
        table.add_column(state, justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    for grid, counts in status.counts.items():
        numbers = [
            Text(_number(counts[state], narrow), style=_STYLES.get(state, "")) if counts.get(state) else ""
            for state in states
        ]
        table.add_row(_line(grid or _NO_GRID), *numbers, _number(sum(counts.values()), narrow))
    return table


def _number(number: int, narrow: bool) -> str:
    return str(number) if narrow else f"{number:,}"


def _under_way(status: Status) -> Table:
    numbers = {driver.id: f"#{number}" for number, driver in enumerate(status.drivers, start=1)}
    table = _table()
    table.add_column("Run", justify="right", no_wrap=True)
    table.add_column("Cell")
    for name in ("Epoch", "Attempt", "For", "Driver"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in status.under_way:
        driver = run.state if run.state is RunState.STALE else numbers.get(run.driver or "", "")
        since = format_seconds(max(0.0, (status.moment - run.since).total_seconds())) if run.since else ""
        table.add_row(
            str(run.run),
            _line(run.cell),
            _epochs(run),
            str(run.attempt),
            since,
            Text(driver, style=_STYLES.get(run.state, "")),
        )
    return table


def _epochs(run: UnderWay) -> str:
    if run.epochs is None:
        return str(run.epoch or 0)
    return f"{run.epoch or 0}/{run.epochs}"


def _driver(number: int, driver: Driver, moment: datetime) -> Text:
    heard = f"heard of {format_seconds(max(0.0, (moment - driver.heartbeat).total_seconds()))} ago"
    runs = "run" if driver.running == 1 else "runs"
    what = f"{driver.running:,} running" if driver.alive else f"is dead, left {driver.running:,} {runs} behind"
    style = "" if driver.alive else "yellow"
    return _line(f"#{number} process {driver.pid} on {short(driver.host, 24)}: {what}, {heard}", style)


def _remedies(status: Status, database: str) -> list[str]:
    """How to go on with the runs that dead drivers left behind: a line for each grid that has such runs."""
    lines = []
    for grid, counts in status.counts.items():
        stale = counts.get(RunState.STALE, 0)
        if not stale:
            continue
        what = "1 run is stale" if stale == 1 else f"{stale:,} runs are stale"
        if grid:
            command = shlex.join(["npas-bench", "run", "--grid", grid, "--only", "stale", "--db", database])
            lines.append(printable(f"{what}: {command} takes them up"))
        else:
            lines.append(f"{what}: the npas-bench run command that started them takes them up")
    return lines


def status_lines(status: Status) -> dict[str, str]:
    """One line of text for each grid, for output that cannot be redrawn in place."""
    lines = {}
    for grid, counts in status.counts.items():
        total = sum(counts.values())
        ended = sum(count for state, count in counts.items() if state.ended)
        lines[grid] = printable(f"{grid or _NO_GRID}: {ended:,}/{total:,} ended · {counts_text(counts)}")
    return lines


def status_record(status: Status) -> dict[str, Any]:
    """The whole status as plain data for JSON, with times in UTC by ISO 8601."""

    def plain(row: Any) -> dict[str, Any]:
        return {name: _time(value) if hasattr(value, "isoformat") else value for name, value in row._asdict().items()}

    return {
        "moment": _time(status.moment),
        "grids": [
            {"grid": grid or None, "counts": {state: counts.get(state, 0) for state in STATES}}
            for grid, counts in status.counts.items()
        ],
        "under_way": [plain(run) for run in status.under_way],
        "hidden": status.hidden,
        "drivers": [plain(driver) for driver in status.drivers],
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
