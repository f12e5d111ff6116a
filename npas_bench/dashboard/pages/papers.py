"""The page on the papers: every table that they print, with what was measured here beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from npas_bench.dashboard.filters import choose_name, choose_source
from npas_bench.dashboard.frames import paper_frame
from npas_bench.dashboard.guard import nothing_yet, page
from npas_bench.dashboard.looking import View, papers, tables
from npas_bench.dashboard.words import height_for, number_format, plain
from npas_bench.leaderboard.files import lines_csv
from npas_bench.leaderboard.papers import UNIT, choose_rows, citation, count_lines, metrics_of, place_of, set_beside

if TYPE_CHECKING:
    from npas_bench.dashboard.looking import Look
    from npas_bench.database.queries.papers import PaperNumber
    from npas_bench.leaderboard.papers import Line
    from npas_bench.leaderboard.standings import BoardTable

column = st.column_config
_TABLES = 50


@page("Papers", "Every number that the papers print, with what was measured here beside it.")
def papers_page(looks: list[Look]) -> None:
    """Draw the page."""
    if not looks:
        nothing_yet("There is neither a published board nor a database of your own.")
        return
    rows = papers(looks[-1])
    names = {f"{citation(row.source)}, {row.table}": place_of(row) for row in rows}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_source(looks)
        place = names[choose_name("Printed in", "printed", list(names), width=320)]
    some = choose_rows(rows, [place])
    _draw(set_beside(some, {look.name: _measured(look, some) for look in chosen}))


def _measured(look: Look, rows: list[PaperNumber]) -> dict[str, list[BoardTable]]:
    tasks = sorted({row.dataset for row in rows})
    found = {}
    for metric in metrics_of(rows):
        views = [View(task=task, metric=metric, limit=_TABLES) for task in tasks]
        found[metric] = [table for view in views for table in tables(look, view).shown]
    return found


def _draw(lines: list[Line]) -> None:
    tally = count_lines(lines)
    said = f"{tally.numbers} numbers, {tally.measured} with a measured result beside them"
    if tally.compared:
        said += f"; {tally.within} of {tally.compared} within the printed spread"
    st.caption(plain(said + ". The papers' recipes differ from ours: see how each result was measured."))
    number = number_format(UNIT)
    st.dataframe(
        paper_frame(lines),
        hide_index=True,
        placeholder="—",
        height=height_for(len(lines)),
        key="numbers",
        column_config={
            "Method": column.TextColumn(pinned=True),
            "Budget (%)": column.NumberColumn(format="%.4g", help="Of the full architecture's parameters"),
            "Parameters (M)": column.NumberColumn(format="%.4g"),
            "Printed": column.NumberColumn(format=number),
            "Printed ±": column.NumberColumn(format=number, help="As printed; no paper says what it means"),
            "Measured": column.NumberColumn(format=number, help="Mean over seeds, in the paper's metric"),
            "Measured ±": column.NumberColumn(format=number, help="Half the 95 % t-interval"),
            "Difference": column.NumberColumn(format="%+.2f", help="Measured minus printed"),
            "Remark": column.TextColumn(width="large"),
        },
        alt="A paper's numbers with measured ones",
    )
    st.download_button("CSV", lines_csv(lines), "papers.csv", "text/csv", on_click="ignore")
