"""The page on cost: the metric against time, memory, operations or parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from npas_bench.dashboard.charts.boards import cost_chart
from npas_bench.dashboard.filters import choose_table
from npas_bench.dashboard.frames import cost_frame
from npas_bench.dashboard.guard import nothing_to_draw, nothing_yet, page, tell_if_many
from npas_bench.dashboard.words import number_format, plain, with_unit
from npas_bench.leaderboard.cost import COSTS, spent

if TYPE_CHECKING:
    from npas_bench.dashboard.looking import Look

column = st.column_config
_KINDS = {"step time": "time", "peak memory": "memory", "FLOPs": "flops", "parameters": "parameters"}


@page("Cost", "What a result costs in time, memory and operations, and which results no other one beats at their cost.")
def cost_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_table(looks)
        title = st.segmented_control(
            "Cost",
            list(_KINDS),
            default="step time",
            required=True,
            key="cost",
            bind="query-params",
            persist_state="session",
        )
        kind = _KINDS[title]
    if chosen is None or chosen[1].metric is None:
        nothing_to_draw()
        return
    look, table = chosen
    cost = COSTS[kind]
    results = spent(table, cost)
    st.caption(
        plain(f"{table.full:,} parameters · recipe {table.recipe} · data {table.data} · device {table.device_class}")
        + " · bars: 95 % t-intervals · ringed: no other result is both cheaper and better"
    )
    if not results:
        st.info(f"No run of this table has recorded its {plain(cost.name)}.", icon=":material/info:")
        return
    st.plotly_chart(
        cost_chart(table, results, cost),
        key=f"cost-{kind}-{look.name}-{table.key}",
        config={"displaylogo": False},
        alt="Metric against cost",
    )
    tell_if_many(table)
    have = sum(standing.mean is not None for band in table.bands for standing in band.standings)
    if len(results) < have:
        st.caption(f"{have - len(results)} of {have} results are left out: their {plain(title)} was not recorded.")
    if kind == "time":
        st.caption("Cells that run side by side on one machine share its memory, so small differences are noise.")
    if kind == "memory" and table.device_class == "cpu":
        st.caption("On a CPU, this is the largest memory of the whole process, including Python and its libraries.")
    st.dataframe(
        cost_frame(results, cost),
        hide_index=True,
        placeholder="—",
        key="costs",
        column_config={
            "Best": column.CheckboxColumn("Pareto", width="small"),
            "Mean": column.NumberColumn(with_unit(table.metric or "", table.unit), format=number_format(table.unit)),
            "±": column.NumberColumn(format=number_format(table.unit), width="small"),
            "Cost": column.NumberColumn(with_unit(title, cost.unit), format="%.4g"),
            "Parameters": column.NumberColumn(format="localized"),
            "MFLOP forward": column.NumberColumn(format="%.4g", help="Forward pass of one example"),
            "MFLOP generation": column.NumberColumn(format="%.4g", help="Generating all weights once"),
        },
        alt="Results with their cost",
    )
