"""Tables of a board as data frames. A column with the same value in every row is shown once, above the table.

Every table on a page can be saved as CSV by its toolbar, so that texts are marked here as they are in our own CSV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import streamlit as st

from npas_bench.dashboard.words import mebibytes, millions, number_format, with_unit
from npas_bench.leaderboard.files import no_formula
from npas_bench.leaderboard.papers import method_there
from npas_bench.leaderboard.texts import conditions_text, trouble_texts, whose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.leaderboard.comparison import HeadToHead
    from npas_bench.leaderboard.cost import CostAxis, Spent
    from npas_bench.leaderboard.frontier import Frontier
    from npas_bench.leaderboard.papers import Line
    from npas_bench.leaderboard.standings import BoardTable
    from npas_bench.leaderboard.statistics import Difference

column = st.column_config


class Framed(NamedTuple):
    """A data frame, the way its columns are shown, and the facts that all its rows have in common."""

    frame: pd.DataFrame
    columns: dict[str, Any]
    common: dict[str, str]


# The facts of a table that a row shows before its numbers.
_FIRST = ("Task", "Architecture")


def _setting(table: BoardTable) -> dict[str, Any]:
    return {
        "Task": no_formula(table.task),
        "Architecture": no_formula(table.architecture),
        "Recipe": no_formula(table.recipe),
        "Data": no_formula(table.data),
        "Device": table.device_class,
    }


def _facts(table: BoardTable) -> dict[str, Any]:
    return {**_setting(table), "Metric": with_unit(table.metric or "none", table.unit)}


def board_frame(tables: Sequence[BoardTable]) -> Framed:
    """A data frame of all standings, best first within each budget."""
    rows = [
        {
            "Method": no_formula(standing.label),
            **{name: value for name, value in _facts(table).items() if name in _FIRST},
            "Budget": no_formula(band.text),
            "Rank": standing.rank,
            "Mean": standing.mean,
            "±": standing.half_width,
            "Seeds": standing.seeds or None,
            "Parameters": standing.parameters,
            "Step": standing.relative_time,
            "Memory": mebibytes(standing.peak_memory),
            "Notes": [*standing.badges, *trouble_texts(standing)],
            "Why": no_formula(standing.note or ""),
            **{name: value for name, value in _facts(table).items() if name not in _FIRST},
        }
        for table in tables
        for band in table.bands
        for standing in band.standings
    ]
    number = number_format(*(table.unit for table in tables))
    common = {name: str(rows[0][name]) for name in _facts(tables[0]) if len({row[name] for row in rows}) == 1}
    frame = _whole_numbers(pd.DataFrame(rows), "Rank", "Seeds", "Parameters").drop(columns=[*common])
    frame = frame.drop(columns=[name for name in ("Why", "Notes") if not frame[name].astype(bool).any()])
    mean = common.get("Metric", "Mean")
    columns = {
        "Task": column.TextColumn(width="small"),
        "Method": column.TextColumn(pinned=True, width="medium"),
        "Rank": column.NumberColumn(
            width="small", help="One plus the number of methods that are significantly better at the same budget"
        ),
        "Mean": column.NumberColumn(mean, format=number, help="Mean over seeds"),
        "±": column.NumberColumn(format=number, width="small", help="Half the 95 % t-interval, from three seeds up"),
        "Seeds": column.NumberColumn(width="small"),
        "Parameters": column.NumberColumn(format="localized", help="Trainable scalars that are really used"),
        "Step": column.NumberColumn("Step (× full)", format="%.2f", help="Time of a training step, relative to full"),
        "Memory": column.NumberColumn("Memory (MiB)", format="%.0f", help="Peak memory of the process or GPU"),
        "Notes": column.ListColumn(width="medium"),
        "Why": column.TextColumn("Why not", width="large"),
    }
    return Framed(frame, {name: shown for name, shown in columns.items() if name in frame}, common)


def _whole_numbers(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The frame with some columns as whole numbers, of which some may be missing."""
    return frame.astype({name: "Int64" for name in names})


def score_frame(found: Frontier) -> pd.DataFrame:
    """A data frame of frontier scores, best first."""
    rows = [
        {
            "Rank": score.rank,
            "Method": no_formula(score.label),
            "Score": score.score,
            "±": score.half_width,
            "Seeds": score.seeds or None,
            "Why": no_formula(score.reason or ""),
        }
        for score in found.scores
    ]
    return _whole_numbers(pd.DataFrame(rows), "Rank", "Seeds")


def cost_frame(results: Sequence[Spent], cost: CostAxis) -> pd.DataFrame:
    """A data frame of results with their cost, cheapest first."""
    return pd.DataFrame(
        [
            {
                "Best": one.best,
                "Method": no_formula(one.standing.label),
                "Budget": no_formula(one.band.text),
                "Mean": one.standing.mean,
                "±": one.standing.half_width,
                "Cost": one.cost,
                "Parameters": one.standing.parameters,
                "MFLOP forward": millions(one.standing.forward_flops),
                "MFLOP generation": millions(one.standing.generation_flops),
            }
            for one in results
        ]
    )


def encounter_frame(found: HeadToHead) -> pd.DataFrame:
    """A data frame of two methods, with a row for every shared budget."""
    rows = [
        {
            **_setting(one.table),
            "Budget": no_formula(one.text),
            "Metric": with_unit(one.table.metric or "", one.table.unit),
            "First": one.first.mean,
            "Second": one.second.mean,
            **_difference(one.difference),
            "Better": no_formula(one.winner or "cannot be told apart"),
        }
        for one in found.encounters
    ]
    return pd.DataFrame(rows)


def overall_frame(found: HeadToHead) -> pd.DataFrame:
    """A data frame of two methods, with a row for every shared table."""
    return pd.DataFrame(
        [
            {
                **_setting(one.table),
                "Budgets": one.budgets,
                "Metric": with_unit(one.table.metric or "", one.table.unit),
                **_difference(one.difference),
            }
            for one in found.overall
        ]
    )


def _difference(difference: Difference | None) -> dict[str, Any]:
    if difference is None:
        return {"Difference": None, "±": None, "Pairs": 0}
    return {"Difference": difference.mean, "±": difference.half_width, "Pairs": difference.pairs}


def paper_frame(lines: Sequence[Line]) -> pd.DataFrame:
    """A data frame of a paper's table, with columns for what was measured."""
    rows = []
    for line in lines:
        row, standing = line.row, line.standing
        percent = row.percent
        within = {None: "", True: "yes", False: "no"}[line.within]
        rows.append(
            {
                "Data": row.dataset,
                "Architecture": row.architecture,
                "Method": method_there(row),
                "Budget (%)": percent,
                "Parameters (M)": row.params_millions,
                "Metric": row.metric,
                "Printed": line.value,
                "Printed ±": line.spread,
                "Runs": row.runs,
                "Measured": line.mean,
                "Measured ±": line.half_width,
                "Seeds": None if standing is None else standing.seeds,
                "Difference": line.difference,
                "Within ±": within,
                "Measured as": _measured_as(line),
                "Remark": row.note,
            }
        )
    frame = _whole_numbers(pd.DataFrame(rows), "Runs", "Seeds")
    empty = [name for name in frame if frame[name].replace("", None).isna().all()]
    return frame.drop(columns=[name for name in empty if name not in ("Measured", "Printed")])


def _measured_as(line: Line) -> str:
    if line.table is None or line.standing is None:
        return ""
    return no_formula(f"{line.standing.label}, {conditions_text(line.table)}, {whose(line.source)}")
