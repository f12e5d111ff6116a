"""Plans on a terminal: the cells of a run, and the time, memory and disk space that they will take."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from npas_bench.leaderboard.texts import NOTHING
from npas_bench.runner.progress import format_seconds

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from rich.console import Console

    from npas_bench.cli.plan_rows import Row
    from npas_bench.forecast.forecast import Forecast
    from npas_bench.forecast.outlook import Outlook

_BASES = {"runs": "runs of their kind", "neighbours": "similar runs", "operations": "their operations alone"}


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print a table for each task, architecture and recipe, as boards do."""
    tables: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        cell = row.first.cell
        tables.setdefault((cell.task, cell.architecture, cell.recipe), []).append(row)
    for some in tables.values():
        cell, full = some[0].first.cell, some[0].first.full
        title = f"{cell.task} · {cell.architecture} ({full:,} parameters) · recipe {cell.recipe.name}"
        console.print(title, style="bold", soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("Method", overflow="fold", min_width=12)
        for heading in ("Budget", "Parameters", "Seeds"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("State", overflow="fold", min_width=11)
        for heading in ("Each", "Memory"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in some:
            cell, estimate, preview = row.first.cell, row.estimate, row.preview
            options = (f" {key}={value}" for key, value in sorted(cell.options.items()))
            table.add_row(
                "\n".join([cell.method, *options]),
                cell.budget_text,
                NOTHING if preview.parameters is None else f"{preview.parameters:,}",
                f"{len(row.cells):,}",
                row.state,
                NOTHING if preview.trouble else _duration(estimate.seconds),
                NOTHING if preview.trouble or estimate.memory is None else _size(estimate.memory),
            )
        console.print(table)
    notes = [
        f"{row.preview.trouble}: {row.first.cell.method_label} at {row.first.cell.budget_text}: {row.preview.reason}"
        for row in rows
        if row.preview.trouble
    ]
    for note in dict.fromkeys(notes):
        console.print(note, style="dim")
    if notes:
        console.print()


def print_outlook(console: Console, outlook: Outlook, device: str, forecast: Forecast, of_what: Counter[str]) -> None:
    """Print what the cells that are left will take.

    Args:
        console: where to print it.
        outlook: the time, memory and disk space that the cells will take.
        device: the device that they will run on.
        forecast: the forecast that the outlook was made from.
        of_what: how many cells were forecast on which basis.
    """
    cpu = device == "cpu"
    when = _moment(outlook.seconds)
    lanes = f"{outlook.lanes} {'CPU thread' if cpu else 'GPU'}{'s' if outlook.lanes > 1 else ''}"
    bases = "; ".join(f"{of_what[basis]:,} from {words}" for basis, words in _BASES.items() if of_what[basis])
    facts = {
        "CPU time" if cpu else "GPU time": _duration(outlook.device_seconds),
        f"on {lanes}": f"finished at {when}, in {_duration(outlook.seconds)}",
        "memory": "unknown" if outlook.memory is None else f"{_size(outlook.memory)} a worker, at its peak",
        "disk": f"{_size(outlook.checkpoints)} of checkpoints while it runs; the database grows by "
        f"{_size(outlook.growth)}",
        "forecast": f"{bases} ({forecast.runs:,} past runs)",
    }
    past = forecast.hindcast()
    if past.new.of:
        facts["past runs"] = (
            f"right within a factor of {past.factor:g}: {past.known} from others of their kind, {past.new} without any"
            if past.known.of
            else f"right within a factor of {past.factor:g}: {past.new} without any of their kind"
        )
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)


def _moment(seconds: float) -> str:
    """The local time at which so many seconds from now are over, with the date where that is not today."""
    now = datetime.now().astimezone()
    try:
        end = now + timedelta(seconds=seconds)
    except OverflowError:
        return "a time that no calendar has"
    return f"{end:%H:%M}" if end.date() == now.date() else f"{end:%H:%M on %a %d %B %Y}"


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return format_seconds(seconds)
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
