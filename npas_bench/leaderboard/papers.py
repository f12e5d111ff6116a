"""The papers' numbers beside measured ones: which can be compared, and how far they are apart.

A paper's number is never ranked or pooled with measured ones, nor with another paper's, because protocols differ.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from npas_bench.database.queries.papers import PaperNumber
    from npas_bench.leaderboard.standings import Band, BoardTable, Standing

# How each paper is cited in running text.
CITATIONS = {
    "plummer2022npas": "Plummer et al. 2022",
    "teterwak2023superweights": "Teterwak et al. 2023",
    "plummer2021ssn": "Plummer et al. 2021",
    "npas2022slides": "Plummer et al. 2022, slides",
}
# The unit of every metric that the papers print.
UNIT = "%"
_COMPLEMENTS = re.compile(r"(accuracy|error)(@\d+)")
_HUNDRED = 100.0
_ROUNDED = 0.015


class Point(NamedTuple):
    """A paper's number, in the metric of a table that it stands beside.

    Attributes:
        row: the number as printed, and where it is printed.
        share: the budget as a percentage of the full architecture's parameters; None if the budget is not known.
        value: the number in the table's metric.
        spread: the spread as printed; None if none is printed.
    """

    row: PaperNumber
    share: float | None
    value: float
    spread: float | None


class Line(NamedTuple):
    """A paper's number and what was measured for it.

    Attributes:
        row: the number as printed, and where it is printed.
        value: the number.
        spread: the spread as printed; None if none is printed.
        source: the name of the source of the measured result; None if there is no result.
        table: the table of the measured result; None if there is no result.
        standing: the measured result; None if there is none.
        mean: the mean of the measured result, in the paper's metric; None if no seed is done.
        half_width: half the width of the mean's 95 % t-interval; None below three seeds.
        difference: measured minus printed; None if there is no mean.
        within: whether the measured mean lies within the printed spread; None if there is no mean, or no spread.
    """

    row: PaperNumber
    value: float
    spread: float | None
    source: str | None
    table: BoardTable | None
    standing: Standing | None
    mean: float | None
    half_width: float | None
    difference: float | None
    within: bool | None


class Tally(NamedTuple):
    """How many of some numbers were measured, and how many of those agree.

    Attributes:
        numbers: how many numbers the papers print.
        measured: how many results with a mean stand beside them.
        compared: how many of those stand beside a number with a printed spread.
        within: how many of the compared ones lie within the printed spread.
    """

    numbers: int
    measured: int
    compared: int
    within: int


def count_lines(lines: Sequence[Line]) -> Tally:
    """Count how many of the papers' numbers were measured, and how many of those agree."""
    compared = [line.within for line in lines if line.within is not None]
    measured = sum(line.mean is not None for line in lines)
    return Tally(len({id(line.row) for line in lines}), measured, len(compared), sum(compared))


def citation(source: str) -> str:
    """The citation of a paper in running text."""
    return CITATIONS.get(source, source)


def method_there(row: PaperNumber) -> str:
    """The name of the method in the paper, with its variant."""
    return f"{row.method} ({row.variant})" if row.variant else row.method


def place_of(row: PaperNumber) -> str:
    """The place where a number is printed, as grids name it: `plummer2022npas Table 5`."""
    return f"{row.source} {row.table}"


def in_metric(row: PaperNumber, metric: str | None) -> float | None:
    """A paper's number in a metric; None if it is printed in another one.

    Errors and accuracies in per cent are complements, so each is turned into the other.
    """
    if metric is None:
        return None
    if row.metric == metric:
        return float(row.value)
    return _HUNDRED - float(row.value) if _complement(row.metric) == metric else None


def _complement(metric: str) -> str | None:
    match = _COMPLEMENTS.fullmatch(metric)
    return None if match is None else f"{'error' if match[1] == 'accuracy' else 'accuracy'}{match[2]}"


def points_beside(table: BoardTable, rows: Iterable[PaperNumber]) -> list[Point]:
    """The papers' numbers for a table's task, architecture and metric, whether this suite has their method or not."""
    found = []
    for row in rows:
        if (row.dataset, row.architecture) == (table.task, table.architecture):
            value = in_metric(row, table.metric)
            if value is not None:
                found.append(Point(row, _share(row, table.full), value, _spread(row)))
    return found


def _share(row: PaperNumber, full: int) -> float | None:
    if row.percent is not None:
        return row.percent
    return None if row.params_millions is None else 100e6 * row.params_millions / full


def choose_rows(rows: Sequence[PaperNumber], places: Iterable[str]) -> list[PaperNumber]:
    """Choose the numbers that are printed at some places.

    Args:
        rows: all the numbers.
        places: papers and tables, such as `plummer2022npas Table 5`.

    Raises:
        UnknownName: if nothing is printed at one of the places.
    """
    known = {place_of(row) for row in rows}
    wanted = {_full_place(place, known) for place in places}
    return [row for row in rows if place_of(row) in wanted]


def _full_place(place: str, known: Collection[str]) -> str:
    """The paper and table that a user means, who may leave the paper out where only one has such a table."""
    if place in known:
        return place
    ending = sorted(one for one in known if one.lower().endswith(f" {place.lower()}"))
    if len(ending) == 1:
        return ending[0]
    # All tables of all papers would fill the screen.
    raise UnknownName("table", place, ending or get_close_matches(place, known, n=5, cutoff=0), remedy="of the papers'")


def set_beside(rows: Iterable[PaperNumber], sources: Mapping[str, Mapping[str, Sequence[BoardTable]]]) -> list[Line]:
    """Set each number beside what was measured for it: a line for each result, or one line if there is none.

    Args:
        rows: the papers' numbers.
        sources: the tables of measured results, by the name of their source and the metric that was read.
    """
    lines = []
    for row in rows:
        found = [
            _line(row, source, table, standing)
            for source, tables in sources.items()
            for metric in (row.metric, _complement(row.metric))
            for table in (tables.get(metric, ()) if metric else ())
            for standing in _standings(row, table)
            if table.metric == metric
            # As long as no cell is done, the metric of a table is not known. Such tables come once, not per metric.
            or (table.metric is None and metric == row.metric and (standing.failed or standing.unsupported))
        ]
        found.sort(key=lambda line: line.table is not None and line.table.recipe != "default")
        lines += found or [Line(row, float(row.value), _spread(row), None, None, None, None, None, None, None)]
    return lines


def measured(lines: Iterable[Line]) -> list[Line]:
    """The lines with a result beside the number, even if it has no mean."""
    return [line for line in lines if line.standing is not None]


def _standings(row: PaperNumber, table: BoardTable) -> Iterator[Standing]:
    if row.method_here is None or (row.dataset, row.architecture) != (table.task, table.architecture):
        return
    for band in table.bands:
        if _same_budget(row, band, table.full):
            for standing in band.standings:
                if (standing.method, dict(standing.options)) == (row.method_here, row.options_here or {}):
                    yield standing


def _same_budget(row: PaperNumber, band: Band, full: int) -> bool:
    percent = row.percent
    if percent is not None:
        # Budgets in per cent are resolved in this way: in integers, since 1.4 is not a binary fraction.
        return band.budget == round(percent * 1000) * full // 100_000
    if row.params_millions is None:
        return False
    printed = 1e6 * row.params_millions
    # Some papers cut digits instead of rounding, so the last printed digit may be off by one, but 4M is never 5M.
    digits = len(f"{row.params_millions:g}".partition(".")[2])
    return abs(band.budget - printed) <= min(10.0 ** (6 - digits), _ROUNDED * printed)


def _spread(row: PaperNumber) -> float | None:
    return float(row.spread) if row.spread else None


def _line(row: PaperNumber, source: str, table: BoardTable, standing: Standing) -> Line:
    value, spread, mean = float(row.value), _spread(row), standing.mean
    if mean is not None and table.metric != row.metric:
        mean = _HUNDRED - mean
    difference = None if mean is None else mean - value
    within = None if difference is None or spread is None else abs(difference) <= spread + 1e-9
    return Line(row, value, spread, source, table, standing, mean, standing.half_width, difference, within)


def metrics_of(rows: Iterable[PaperNumber]) -> list[str]:
    """The metrics that measured results must be read in, so that they can be set beside some numbers."""
    names = {metric for row in rows for metric in (row.metric, _complement(row.metric)) if metric is not None}
    return sorted(names)
