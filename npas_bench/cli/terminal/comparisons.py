"""Comparisons on a terminal: two methods, and results beside the papers' numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from npas_bench.database.labels import printable
from npas_bench.leaderboard.files import NOTHING
from npas_bench.leaderboard.papers import citation, method_there
from npas_bench.leaderboard.texts import whose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from npas_bench.leaderboard.comparison import HeadToHead
    from npas_bench.leaderboard.papers import Line
    from npas_bench.leaderboard.standings import BoardTable
    from npas_bench.leaderboard.statistics import Difference

_HOW = (
    "Paired by seed: a t-test for each budget over the seeds that both have, Holm's procedure over all of them (5 %). "
    "± is the 95 % t-interval, from three seeds up."
)
_BESIDE = (
    "Papers' recipes and data are not ours: the difference is measured minus printed; ± in a paper is as printed, and "
    "no paper says what it means. Ours: mean over seeds ± 95 % t-interval."
)


def print_comparison(console: Console, heading: str, found: HeadToHead) -> None:
    """Print two methods head to head."""
    console.print(_text(heading, "bold"))
    console.print(_text(found.verdict))
    if found.encounters:
        table = _table("Task and network", "Budget", "Metric")
        for name in (found.first, found.second, "Difference"):
            table.add_column(_text(name), justify="right", overflow="fold")
        table.add_column("Better", overflow="fold")
        for one in found.encounters:
            decimals = 2 if one.table.unit == "%" else 4
            table.add_row(
                *map(_text, (f"{one.table.task} {one.table.architecture}", one.text, one.table.metric or "")),
                f"{one.first.mean:.{decimals}f}",
                f"{one.second.mean:.{decimals}f}",
                _difference(one.difference, decimals),
                _text(one.winner or NOTHING),
            )
        console.print(table)
        for made in dict.fromkeys(_made(one.table) for one in found.encounters):
            console.print(_text(made, "dim"))
        for overall in found.overall:
            if overall.difference is not None and overall.budgets > 1:
                decimals = 2 if overall.table.unit == "%" else 4
                console.print(
                    _text(
                        f"{overall.table.task} · {overall.table.architecture}, mean over {overall.budgets} budgets: "
                        f"{_difference(overall.difference, decimals)} {overall.table.unit}"
                    )
                )
    if found.left_out:
        console.print(_text(found.left_out))
    console.print(_text(_HOW, "dim"))
    console.print()


def _made(table: BoardTable) -> str:
    return f"{table.task} {table.architecture}: recipe {table.recipe}, {table.data}, {table.device_class}"


def print_papers(console: Console, lines: Sequence[Line]) -> None:
    """Print papers' numbers with what was measured beside them."""
    if not lines:
        console.print("no result stands beside a paper's number yet: npas-bench list grids tells which grids would")
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
                NOTHING if line.difference is None else f"{line.difference:+.2f}",
                {None: "", True: "yes", False: "no"}[line.within],
            )
            if line.table is not None and line.standing is not None:
                how = f"recipe {line.table.recipe}, {line.table.data}, {line.table.device_class}"
                notes[f"ours: {line.standing.label}, {how}, {whose(line.source)}"] = None
        console.print(table)
        for note in notes:
            console.print(_text(note, "dim"))
        console.print()
    measured = sum(line.mean is not None for line in lines)
    compared = [line.within for line in lines if line.within is not None]
    said = f"{len({id(line.row) for line in lines}):,} numbers, {measured:,} measured results beside them"
    console.print(said + (f", {sum(compared)} of {len(compared)} within the printed spread" if compared else ""))
    console.print(_text(_BESIDE, "dim"))


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _difference(difference: Difference | None, decimals: int) -> str:
    if difference is None:
        return NOTHING
    spread = f" ± {difference.half_width:.{decimals}f}" if difference.half_width is not None else ""
    return f"{difference.mean:+.{decimals}f}{spread}"


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
        return "failed" if line.standing.failed else "unsupported" if line.standing.unsupported else NOTHING
    return f"{line.mean:.2f}" + (f" ± {line.half_width:.2f}" if line.half_width is not None else "")
