"""The app that lists the pages: `npas-bench dashboard` has Streamlit run this file.

It lies in this folder because Streamlit takes a folder `pages` beside an app for a list of pages of its own.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from npas_bench.dashboard.pages.board import board
from npas_bench.dashboard.pages.compare import compare_page
from npas_bench.dashboard.pages.cost import cost_page
from npas_bench.dashboard.pages.frontier import frontier_page
from npas_bench.dashboard.pages.grids import grids_page
from npas_bench.dashboard.pages.papers import papers_page
from npas_bench.dashboard.pages.run import run_page

_ICON = Path(__file__).parent.parent / "icon.svg"


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="npas-bench", page_icon=str(_ICON), layout="wide")
    pages = {
        "board": st.Page(board, title="Board", icon=":material/leaderboard:", url_path="board", default=True),
        "frontier": st.Page(frontier_page, title="Frontier", icon=":material/show_chart:", url_path="frontier"),
        "cost": st.Page(cost_page, title="Cost", icon=":material/timer:", url_path="cost"),
        "compare": st.Page(compare_page, title="Compare", icon=":material/balance:", url_path="compare"),
        "run": st.Page(run_page, title="Run", icon=":material/lab_research:", url_path="run"),
        "grids": st.Page(grids_page, title="Grids", icon=":material/grid_view:", url_path="grids"),
        "papers": st.Page(papers_page, title="Papers", icon=":material/menu_book:", url_path="papers"),
    }
    st.session_state["pages"] = pages
    st.navigation(list(pages.values()), position="top").run()


main()
