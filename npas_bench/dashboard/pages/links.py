"""Links from one page to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from npas_bench.dashboard.words import plain
from npas_bench.leaderboard.texts import number_text

if TYPE_CHECKING:
    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.standings import BoardTable, Standing


def run_page_link() -> st.Page:
    """The page of single runs, as the app knows it."""
    page: st.Page = st.session_state["pages"]["run"]
    return page


def run_links(look: Look, table: BoardTable, standing: Standing) -> None:
    """Draw a link to each run of a standing."""
    with st.container(horizontal=True):
        for run in standing.runs:
            value = run.state if run.value is None else number_text(run.value, table.unit)
            unit = f" {table.unit}" if run.value is not None and table.unit else ""
            st.page_link(
                run_page_link(),
                label=plain(f"seed {run.seed}: {value}{unit}"),
                icon=":material/lab_research:",
                query_params={"of": look.short, "run": str(run.run)},
            )
