"""Two methods head to head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from npas_bench.dashboard.charts import difference_chart
from npas_bench.dashboard.filters import choose_metric, choose_source, choose_task
from npas_bench.dashboard.frames import encounter_frame, overall_frame
from npas_bench.dashboard.guard import nothing_to_draw, nothing_yet, page
from npas_bench.dashboard.looking import View, tables
from npas_bench.dashboard.words import plain, short
from npas_bench.leaderboard.comparison import head_to_head

if TYPE_CHECKING:
    import pandas as pd

    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.comparison import HeadToHead

column = st.column_config
_TABLES = 50
_KEPT: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
_PREFERRED = ("ssn", "reduced")


@page("Compare", "Two methods head to head, over every budget, architecture and task at which both have results.")
def compare_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_source(looks)
        task, architecture = choose_task(looks)
        metric = choose_metric(looks)
        view = View(task=task, architecture=architecture, metric=metric, limit=_TABLES)
        found = [(look, tables(look, view)) for look in chosen]
        shown = [table for _, part in found for table in part.shown]
        labels = sorted({s.label for table in shown for band in table.bands for s in band.standings})
        if len(labels) > 1:
            preferred = [label for label in _PREFERRED if label in labels] + labels
            first = st.selectbox(
                "First", labels, index=labels.index(preferred[0]), key="first", format_func=short, width=180, **_KEPT
            )
            rest = [label for label in labels if label != first]
            second = next(label for label in [*_PREFERRED[::-1], *rest] if label in rest)
            second = st.selectbox(
                "Second", rest, index=rest.index(second), key="second", format_func=short, width=180, **_KEPT
            )
    if len(labels) < 2:
        nothing_to_draw()
        return
    if any(part.total > _TABLES for _, part in found):
        st.caption(f"Of the {_TABLES} tables with the newest results: choose a task or architecture for others.")
    # Sources apart: their cells may be the same, and would count twice.
    for look, part in found:
        if len(found) > 1:
            st.header(plain(look.title))
        _draw(head_to_head(part.shown, first, second), look.name)


def _draw(found: HeadToHead, source: str) -> None:
    st.info(plain(found.verdict), icon=":material/balance:")
    st.caption(
        "Results are paired by seed: for a seed, methods see the same data in the same order. Every shared budget is "
        "a paired t-test over the seeds that both have; Holm's procedure over all of them keeps the error of the "
        f"family at 5 %. {found.left_out}"
    )
    if not found.encounters:
        return
    units = {one.table.unit for one in found.encounters}
    st.plotly_chart(
        difference_chart(found, units.pop() if len(units) == 1 else ""),
        key=f"differences-{source}",
        config={"displaylogo": False},
        alt="Differences with their intervals",
    )
    directions = {one.table.higher_is_better for one in found.encounters}
    if len(directions) == 1:
        left, right = (found.second, found.first) if directions.pop() else (found.first, found.second)
        st.caption(f"Left of the dashed line {plain(left)} is better, right of it {plain(right)}.")
    number = "%.2f" if units <= {"%"} and all(one.table.unit == "%" for one in found.encounters) else "%.4f"
    columns = {
        "First": column.NumberColumn(short(found.first, 30), format=number),
        "Second": column.NumberColumn(short(found.second, 30), format=number),
        "Difference": column.NumberColumn(format=number, help="First minus second, mean over shared seeds"),
        "±": column.NumberColumn(format=number, width="small", help="Half its 95 % t-interval"),
        "Pairs": column.NumberColumn("Seeds", width="small"),
        "Better": column.TextColumn("Significantly better"),
    }
    st.subheader("Budget by budget")
    _table(encounter_frame(found), f"encounters-{source}", columns)
    st.subheader("Over all shared budgets of a table")
    _table(overall_frame(found), f"overall-{source}", columns)


def _table(frame: pd.DataFrame, key: str, columns: dict[str, Any]) -> None:
    shown = {name: how for name, how in columns.items() if name in frame}
    st.dataframe(frame, hide_index=True, placeholder="—", key=key, column_config=shown, alt="Differences")
