"""The page that compares two methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from npas_bench.dashboard.charts.boards import MOST_DIFFERENCES, difference_chart
from npas_bench.dashboard.filters import choose_metric, choose_name, choose_source, choose_task
from npas_bench.dashboard.frames import encounter_frame, overall_frame
from npas_bench.dashboard.guard import nothing_to_draw, nothing_yet, page
from npas_bench.dashboard.looking import View, methods, tables
from npas_bench.dashboard.words import number_format, plain
from npas_bench.database.labels import short
from npas_bench.leaderboard.comparison import head_to_head
from npas_bench.leaderboard.files import no_formula
from npas_bench.leaderboard.reading import MOST_COMPARED

if TYPE_CHECKING:
    import pandas as pd

    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.comparison import Encounter, HeadToHead

column = st.column_config
# These two are compared at first, if there are results of them.
_PREFERRED = ("ssn", "reduced")


@page("Compare", "Two methods head to head, at every budget, architecture and task for which both have results.")
def compare_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_source(looks)
        task, architecture = choose_task(looks)
        metric = choose_metric(looks)
        labels = sorted({label for look in chosen for label in methods(look, task, architecture)})
        if len(labels) > 1:
            place = next((labels.index(name) for name in _PREFERRED if name in labels), 0)
            first = choose_name("First", "first", labels, at_first=place)
            rest = [label for label in labels if label != first]
            place = next((rest.index(name) for name in reversed(_PREFERRED) if name in rest), 0)
            second = choose_name("Second", "second", rest, at_first=place)
    if len(labels) < 2:
        nothing_to_draw()
        return
    pair = frozenset((first, second))
    view = View(task=task, architecture=architecture, metric=metric, limit=MOST_COMPARED, methods=pair)
    # Each source is compared by itself: the same cells may be in both, and would count twice.
    for look in chosen:
        if len(chosen) > 1:
            st.header(plain(look.title))
        found = tables(look, view)
        _draw(head_to_head(found.shown, first, second, unseen=found.total - found.looked_at), look.name)


def _draw(found: HeadToHead, source: str) -> None:
    st.info(plain(found.verdict), icon=":material/balance:")
    st.caption(
        "Results are paired by seed, because for a given seed all methods see the same data in the same order. Each "
        "shared budget is tested by a paired t-test over the seeds that both methods have; Holm's procedure over all "
        f"tests keeps the familywise error rate at 5 %. {found.left_out}"
    )
    if not found.encounters:
        return
    metrics: dict[tuple[str | None, str, bool], list[Encounter]] = {}
    for one in found.encounters:
        metrics.setdefault((one.table.metric, one.table.unit, one.table.higher_is_better), []).append(one)
    for (metric, _, higher), some in metrics.items():
        st.plotly_chart(
            difference_chart(found, some),
            key=f"differences-{source}-{metric}-{higher}",
            config={"displaylogo": False},
            alt="Differences with their intervals",
        )
        left, right = (found.second, found.first) if higher else (found.first, found.second)
        more = f" The first {MOST_DIFFERENCES} of {len(some):,} are drawn." if len(some) > MOST_DIFFERENCES else ""
        st.caption(f"Left of the dashed line {plain(left)} is better, and right of it {plain(right)} is.{more}")
    number = number_format(*(unit for _, unit, _ in metrics))
    columns = {
        "First": column.NumberColumn(no_formula(short(found.first, 30)), format=number),
        "Second": column.NumberColumn(no_formula(short(found.second, 30)), format=number),
        "Difference": column.NumberColumn(format=number, help="First minus second, mean over shared seeds"),
        "±": column.NumberColumn(format=number, width="small", help="Half the 95 % t-interval of the difference"),
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
