"""The board: methods ranked within each budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from npas_bench.dashboard.filters import choose_method, choose_source, choose_view
from npas_bench.dashboard.frames import board_frame
from npas_bench.dashboard.guard import nothing_yet, page
from npas_bench.dashboard.looking import papers, tables
from npas_bench.dashboard.words import height_for, plain
from npas_bench.leaderboard.files import board_csv, board_json, board_latex, board_markdown
from npas_bench.leaderboard.standings import only_methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.standings import BoardTable

_TABLES = 10
# Files of at most this many rows are made with the page, files of more rows when somebody asks for one.
_AT_ONCE = 300
_LEGEND = (
    "**±** is half the 95 % t-interval of the mean over seeds, from three seeds up. **Rank** is one plus the number of "
    "methods that are significantly better at the same budget (Holm's procedure, 5 %); methods without a significant "
    "difference may share a rank. Unsupported and failed cells keep their row and take no part in means and ranks; "
    "cells that were never run have no row. Each recipe, data set and kind of device has its own table and ranks."
)


@page("Board", "The best ways of sharing parameters at each budget, and how certain their ranks are.")
def board(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet()
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_source(looks)
        view = choose_view(looks, _TABLES)
        method = choose_method()
    boards: list[tuple[Look, list[BoardTable]]] = []
    for look in chosen:
        others = tuple(other for other in looks if other is not look)
        found = tables(look, view, others)
        shown = only_methods(found.shown, method)
        boards.append((look, shown))
        if shown:
            _draw(look, shown, left_out=found.total - found.looked_at, alone=len(chosen) == 1)
        if found.without and view.metric is not None:
            st.caption(plain(f"{found.without:,} tables of {look.short} hold no {view.metric}."))
    if any(shown for _, shown in boards):
        st.markdown(_LEGEND)
        _downloads(boards)
    else:
        st.info("No result matches. Remove some of the choices above.", icon=":material/filter_alt_off:")


def _draw(look: Look, shown: list[BoardTable], *, left_out: int, alone: bool) -> None:
    framed = board_frame(shown)
    if not alone or look.name == "mine":
        st.subheader(plain(look.title))
    if framed.common:
        st.caption(plain(" · ".join(f"{name}: {value}" for name, value in framed.common.items())))
    st.dataframe(
        framed.frame,
        column_config=framed.columns,
        hide_index=True,
        placeholder="—",
        height=height_for(len(framed.frame)),
        key=f"board-{look.name}",
        alt="Methods ranked within each budget",
    )
    for table in shown:
        if table.cut is not None:
            st.caption(
                plain(
                    f"{table.task} · {table.architecture}: {table.cut.budgets:,} larger budgets are left out, "
                    f"from {table.cut.after:,} parameters on; npas-bench leaderboard --from-budget shows them."
                )
            )
    if left_out > 0:
        st.caption(f"{left_out:,} more tables, with older results: choose a task or an architecture to see them.")


def _downloads(boards: list[tuple[Look, list[BoardTable]]]) -> None:
    named = [(look.name, shown) for look, shown in boards]
    titled = [(look.title, shown) for look, shown in boards]
    with_papers = [(look.name, shown, papers(look)) for look, shown in boards]
    files: tuple[tuple[str, str, str, Callable[[], str]], ...] = (
        ("CSV", "board.csv", "text/csv", lambda: board_csv(named)),
        ("Markdown", "board.md", "text/markdown", lambda: board_markdown(titled)),
        ("LaTeX", "board.tex", "text/x-tex", lambda: board_latex(titled)),
        ("JSON", "board.json", "application/json", lambda: board_json(with_papers)),
    )
    rows = sum(len(band.standings) for _, shown in boards for table in shown for band in table.bands)
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, name, kind, make in files:
            # A file made on demand is lost if the page is redrawn at that moment, so small ones are made at once.
            st.download_button(label, make() if rows <= _AT_ONCE else make, name, kind, on_click="ignore")
        st.caption("The page's address is a link to what you see.")
