"""The page on the frontier: the metric against the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from npas_bench.dashboard.charts.boards import frontier_chart
from npas_bench.dashboard.filters import choose_table
from npas_bench.dashboard.frames import score_frame
from npas_bench.dashboard.guard import nothing_to_draw, nothing_yet, page, tell_if_many
from npas_bench.dashboard.looking import papers
from npas_bench.dashboard.pages.links import run_links
from npas_bench.dashboard.words import count_text, number_format, plain, share_text, with_unit
from npas_bench.leaderboard.frontier import BASELINE, BASELINE_SHARE, Frontier, frontier
from npas_bench.leaderboard.papers import points_beside

if TYPE_CHECKING:
    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.frontier import Match
    from npas_bench.leaderboard.standings import BoardTable, Standing

column = st.column_config


@page("Frontier", "The metric of each method as the budget shrinks, beside the papers' numbers and the dense network.")
def frontier_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_table(looks)
        logarithmic = st.toggle(
            "logarithmic metric", key="log", bind="query-params", persist_state="session", width="content"
        )
    if chosen is None or chosen[1].metric is None:
        nothing_to_draw()
        return
    look, table = chosen
    points = points_beside(table, papers(look))
    st.caption(
        plain(f"{table.full:,} parameters · recipe {table.recipe} · data {table.data} · device {table.device_class}")
        + " · bands: 95 % t-intervals"
        + (" · hollow: papers' numbers, with the papers' recipes" if points else "")
        + " · click a point for its runs"
    )
    event = st.plotly_chart(
        frontier_chart(table, points, logarithmic=logarithmic),
        on_select="rerun",
        selection_mode="points",
        key=f"frontier-{look.name}-{table.key}",
        config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]},
        alt="Metric against budget, one line for each method",
    )
    tell_if_many(table)
    _runs(look, table, event)
    _scores(table, frontier(table))


def _runs(look: Look, table: BoardTable, event: Any) -> None:
    points = [point for point in event["selection"]["points"] if point.get("customdata")]
    for point in points[:1]:
        label, budget, *_ = point["customdata"]
        standing = _standing(table, label, budget)
        if standing is not None:
            st.subheader(plain(f"{label} at {share_text(100 * budget / table.full)}: its runs"))
            run_links(look, table, standing)


def _standing(table: BoardTable, label: str, budget: int) -> Standing | None:
    for band in table.bands:
        if band.budget == budget:
            return next((standing for standing in band.standings if standing.label == label), None)
    return None


def _scores(table: BoardTable, found: Frontier) -> None:
    st.subheader("Frontier score")
    if found.lowest is None or found.highest is None:
        st.caption("There are no scores, because no method has results at two budgets.")
        return
    low, high = (share_text(100 * budget / table.full) for budget in (found.lowest, found.highest))
    st.markdown(
        f"The mean of {plain(with_unit(table.metric or '', table.unit))} over the logarithm of the budget, from {low} "
        f"to {high}, the range that most methods reach. A method without a result at either end, or with a failed or "
        "unsupported cell in between, has no score. "
        + (
            f"**Matches** is the budget from which on a method is as good as `{BASELINE}` at {BASELINE_SHARE} %, "
            f"interpolated between means."
            if found.target is not None
            else ""
        )
    )
    matches = {match.label: match for match in found.matches}
    frame = score_frame(found)
    frame["Matches at"] = [_match(matches.get(score.label), table.full) for score in found.scores]
    frame = frame[["Rank", "Method", "Score", "±", "Seeds", "Matches at", "Why"]]
    st.dataframe(
        frame if frame["Why"].any() else frame.drop(columns="Why"),
        hide_index=True,
        placeholder="—",
        key="scores",
        column_config={
            "Rank": column.NumberColumn(width="small"),
            "Score": column.NumberColumn(format=number_format(table.unit)),
            "±": column.NumberColumn(format=number_format(table.unit), help="Half the 95 % t-interval over seeds"),
            "Matches at": column.TextColumn(f"Matches {BASELINE} at {BASELINE_SHARE} % with", width="medium"),
            "Why": column.TextColumn("Why not"),
        },
        alt="Frontier scores",
    )


_BOUNDS = {"at": "", "below": "at most ", "above": "more than "}


def _match(match: Match | None, full: int) -> str:
    if match is None:
        return ""
    return f"{_BOUNDS[match.bound]}{count_text(match.parameters)} = {share_text(100 * match.parameters / full)}"
