"""Comparisons on a terminal: of two methods, and of results with the papers' numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from npas_bench.database.labels import printable
from npas_bench.leaderboard.papers import UNIT, citation, count_lines, method_there
from npas_bench.leaderboard.texts import (
    NOTHING,
    conditions_text,
    decimals,
    interval_text,
    number_text,
    standing_text,
    whose,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from npas_bench.leaderboard.comparison import HeadToHead
    from npas_bench.leaderboard.papers import Line
    from npas_bench.leaderboard.standings import BoardTable
    from npas_bench.leaderboard.statistics import Difference

_HOW = (
    "Results are paired by seed: one t-test for each budget, over the seeds that both methods have, with Holm's "
    "procedure over all tests (5 %). ± is half the 95 % t-interval, from three seeds up."
)
_BESIDE = (
    "The papers' recipes and data differ from ours. The difference is measured minus printed. ± in a paper is "
    "as printed; no paper says what it means. Ours is the mean over seeds ± half its 95 % t-interval."
)


def print_comparison(console: Console, heading: str, found: HeadToHead) -> None:
    """Print the comparison of two methods."""
    console.print(_text(heading, "bold"))
    console.print(_text(found.verdict))
    if found.encounters:
        table = _table("Task and network", "Budget", "Metric")
        for name in (found.first, found.second, "Difference"):
            table.add_column(_text(name), justify="right", overflow="fold")
        table.add_column("Better", overflow="fold")
        for one in found.encounters:
            table.add_row(
                *map(_text, (f"{one.table.task} {one.table.architecture}", one.text, one.table.metric or "")),
                number_text(one.first.mean, one.table.unit),
                number_text(one.second.mean, one.table.unit),
                _difference(one.difference, one.table.unit),
                _text(one.winner or NOTHING),
            )
        console.print(table)
        for made in dict.fromkeys(_made(one.table) for one in found.encounters):
            console.print(_text(made, "dim"))
        for overall in found.overall:
            if overall.difference is not None and overall.budgets > 1:
                console.print(
                    _text(
                        f"{overall.table.task} · {overall.table.architecture}, mean over {overall.budgets} budgets: "
                        f"{_difference(overall.difference, overall.table.unit)} {overall.table.unit}"
                    )
                )
    if found.left_out:
        console.print(_text(found.left_out))
    console.print(_text(_HOW, "dim"))
    console.print()


def _made(table: BoardTable) -> str:
    return f"{table.task} {table.architecture}: {conditions_text(table)}"


def print_papers(console: Console, lines: Sequence[Line]) -> None:
    """Print the papers' numbers with what was measured beside them."""
    if not lines:
        console.print(
            "there is no result for any of the papers' numbers yet: npas-bench list grids shows which grids make some"
        )
        return
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        row = line.row
        key = (f"{citation(row.source)}, {row.table}", row.dataset, row.architecture, row.metric)
        groups.setdefault(key, []).append(line)
    for (place, dataset, architecture, metric), some in groups.items():
        console.print(_text(" · ".join(part for part in (place, dataset, architecture, metric) if part), "bold"))
        table = _table("Method", "Budget")
        for name in ("Paper", "Ours", "Seeds", "Difference", "Within ±"):
            table.add_column(name, justify="right")
        notes: dict[str, None] = {}
        for line in some:
            table.add_row(
                _text(method_there(line.row)),
                _budget(line),
                _printed(line),
                _ours(line),
                str(line.standing.seeds) if line.standing is not None and line.standing.seeds else "",
                NOTHING if line.difference is None else f"{line.difference:+.{decimals(UNIT)}f}",
                {None: "", True: "yes", False: "no"}[line.within],
            )
            if line.table is not None and line.standing is not None:
                how = conditions_text(line.table)
                notes[f"ours: {line.standing.label}, {how}, {whose(line.source)}"] = None
        console.print(table)
        for note in notes:
            console.print(_text(note, "dim"))
        console.print()
    tally = count_lines(lines)
    said = f"{tally.numbers:,} numbers, {tally.measured:,} measured results beside them"
    console.print(said + (f", {tally.within} of {tally.compared} within the printed spread" if tally.compared else ""))
    console.print(_text(_BESIDE, "dim"))


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _difference(difference: Difference | None, unit: str) -> str:
    return NOTHING if difference is None else interval_text(difference.mean, difference.half_width, unit, signed=True)


def _budget(line: Line) -> str:
    row = line.row
    percent = row.percent
    if percent is not None:
        return f"{percent:g}%"
    return f"{row.params_millions:g}M" if row.params_millions is not None else ""


def _printed(line: Line) -> str:
    return line.row.value if line.spread is None else f"{line.row.value} ± {line.row.spread}"


def _ours(line: Line) -> str:
    if line.standing is None:
        return "not run"
    if line.mean is None:
        return standing_text(line.standing, UNIT)
    return interval_text(line.mean, line.half_width, UNIT)
