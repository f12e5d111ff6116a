"""A board as plain data, as `leaderboard --format json` prints it and the pages of the dashboard show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npas_bench.leaderboard.frontier import frontier
from npas_bench.leaderboard.papers import citation, method_there, points_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.database.queries.papers import PaperNumber
    from npas_bench.leaderboard.comparison import HeadToHead
    from npas_bench.leaderboard.frontier import Frontier
    from npas_bench.leaderboard.papers import Line, Point
    from npas_bench.leaderboard.standings import Band, BoardTable, Standing

FORMAT = 1


def table_record(table: BoardTable, papers: Iterable[PaperNumber] = ()) -> dict[str, Any]:
    """A table as plain data, with its frontier and the papers' numbers beside it."""
    return {
        **table_facts(table),
        "budgets": [_band(band, table.full) for band in table.bands],
        "left_out": None if table.cut is None else table.cut._asdict(),
        "frontier": _frontier(frontier(table), {s.label for band in table.bands for s in band.standings}),
        "papers": [_point(point) for point in points_beside(table, papers)],
    }


def table_facts(table: BoardTable) -> dict[str, Any]:
    """The facts that all results of a table share."""
    return {
        "task": table.task,
        "architecture": table.architecture,
        "recipe": table.recipe,
        "data": table.data_label,
        "data_official": table.data_official,
        "device": table.device_class,
        "full": table.full,
        "metric": table.metric,
        "unit": table.unit,
        "higher_is_better": table.higher_is_better,
    }


def _band(band: Band, full: int) -> dict[str, Any]:
    return {
        "budget": band.budget,
        "text": band.text,
        "percent": 100 * band.budget / full,
        "standings": [standing_record(standing) for standing in band.standings],
    }


def standing_record(standing: Standing) -> dict[str, Any]:
    """One method at one budget as plain data."""
    fields = standing._asdict()
    runs, badges = fields.pop("runs"), fields.pop("badges")
    return {
        "label": standing.label,
        **fields,
        "options": dict(standing.options),
        "badges": list(badges),
        "runs": [run._asdict() for run in runs],
    }


def _frontier(found: Frontier, shown: set[str]) -> dict[str, Any]:
    return {
        "lowest": found.lowest,
        "highest": found.highest,
        "scores": [score._asdict() for score in found.scores if score.label in shown],
        "target": found.target,
        "matches": [match._asdict() for match in found.matches if match.label in shown],
    }


def _point(point: Point) -> dict[str, Any]:
    return {**paper_facts(point.row), "percent": point.share, "value": point.value, "spread": point.spread}


def paper_facts(row: PaperNumber) -> dict[str, Any]:
    """The facts about a paper's number: where it is printed and what was measured."""
    return {
        "paper": citation(row.source),
        "table": row.table,
        "method": method_there(row),
        "dataset": row.dataset,
        "architecture": row.architecture,
        "runs": row.runs,
        "note": row.note,
    }


def line_record(line: Line) -> dict[str, Any]:
    """A paper's number and what was measured for it, as plain data."""
    table, standing, row = line.table, line.standing, line.row
    return {
        **paper_facts(row),
        "budget_percent": row.percent,
        "params_millions": row.params_millions,
        "metric": row.metric,
        "value": line.value,
        "spread": line.spread,
        "measured": None
        if table is None or standing is None
        else {
            "source": line.source,
            "label": standing.label,
            "recipe": table.recipe,
            "data": table.data_label,
            "data_official": table.data_official,
            "device": table.device_class,
            "mean": line.mean,
            "half_width": line.half_width,
            "seeds": standing.seeds,
            "difference": line.difference,
            "within_spread": line.within,
            "unsupported": standing.unsupported,
            "failed": standing.failed,
        },
    }


def comparison_record(found: HeadToHead) -> dict[str, Any]:
    """Two methods head to head, as plain data."""
    return {
        "format": FORMAT,
        "first": found.first,
        "second": found.second,
        "verdict": found.verdict,
        "wins": list(found.wins),
        "missing": found.missing,
        "unseen": found.unseen,
        "comparisons": [
            {
                **table_facts(one.table),
                "budget": one.budget,
                "text": one.text,
                "first": one.first.mean,
                "second": one.second.mean,
                "difference": None if one.difference is None else one.difference._asdict(),
                "winner": one.winner,
            }
            for one in found.encounters
        ],
        "overall": [
            {
                **table_facts(one.table),
                "budgets": one.budgets,
                "difference": None if one.difference is None else one.difference._asdict(),
            }
            for one in found.overall
        ],
    }


def flat_rows(tables: Sequence[BoardTable], source: str) -> list[dict[str, Any]]:
    """All standings as flat rows, each with the facts of its table, for CSV and spreadsheets."""
    return [
        {
            "source": source,
            **table_facts(table),
            "budget": band.budget,
            "budget_text": band.text,
            "budget_percent": 100 * band.budget / table.full,
            **{name: value for name, value in standing_record(standing).items() if name not in _NESTED},
            "options": "; ".join(f"{key}={value}" for key, value in sorted(standing.options.items())),
            "badges": "; ".join(standing.badges),
        }
        for table in tables
        for band in table.bands
        for standing in band.standings
    ]


_NESTED = ("runs", "options", "badges")
