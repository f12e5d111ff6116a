"""The page on grids: how far they are, and which cells failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from npas_bench.dashboard.guard import nothing_yet, page
from npas_bench.dashboard.looking import ask, looks
from npas_bench.dashboard.words import plain
from npas_bench.database.labels import short
from npas_bench.database.queries.listing import recent_runs
from npas_bench.database.queries.status import read_status
from npas_bench.database.states import RunState
from npas_bench.errors import NpasBenchError
from npas_bench.leaderboard.files import no_formula
from npas_bench.leaderboard.texts import counts_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.dashboard.looking import Look
    from npas_bench.database.queries.listing import RunLine
    from npas_bench.database.queries.status import Status

_EVERY_SECONDS = 3
_SHOWN = 50
column = st.column_config


@page("Grids", "How far the grids are, and which cells failed.")
def grids_page(found: list[Look]) -> None:
    """Draw the page."""
    if not any(look.name == "mine" for look in found):
        if not looks().problems:
            nothing_yet("No runs of your own yet.")
        return
    _live()


@st.fragment(run_every=_EVERY_SECONDS)
def _live() -> None:
    """Draw the part of the page that is refreshed every few seconds."""
    try:
        mine = next((look for look in looks().there if look.name == "mine"), None)
        if mine is None:
            st.warning("At the moment the database does not exist or cannot be read.")
            return
        status = ask(mine, lambda database: read_status(database, limit=_SHOWN))
        failures = ask(mine, lambda database: recent_runs(database, states=(RunState.FAILED,), limit=_SHOWN))
    except NpasBenchError as error:
        st.warning(plain(str(error)))
        return
    st.caption(plain(f"{mine.title} at {status.moment:%H:%M:%S} UTC, refreshed every {_EVERY_SECONDS} s"))
    _progress(status)
    _under_way(status)
    _drivers(status)
    _failures(failures)


def _progress(status: Status) -> None:
    def idle(grid: tuple[str, Mapping[RunState, int]]) -> bool:
        return not any(count and state.lively for state, count in grid[1].items())

    for grid, counts in sorted(status.counts.items(), key=idle)[:_SHOWN]:
        total, ended = sum(counts.values()), sum(count for state, count in counts.items() if state.ended)
        st.progress(
            ended / total if total else 0.0,
            text=f"**{plain(grid or 'without a grid')}** {ended:,} of {total:,} ended · {counts_text(counts)}",
        )
    if len(status.counts) > _SHOWN:
        st.caption(f"and {len(status.counts) - _SHOWN:,} more grids")


def _under_way(status: Status) -> None:
    if not status.under_way:
        return
    st.subheader("Running")
    rows = [
        {
            "Run": run.run,
            "Cell": no_formula(short(run.cell, 120)),
            "State": run.state,
            "Progress": (run.epoch or 0) / run.epochs if run.epochs else None,
            "Epoch": f"{run.epoch or 0} of {run.epochs}" if run.epochs else str(run.epoch or 0),
            "Attempt": run.attempt,
            "Since": run.since,
        }
        for run in status.under_way
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="—",
        key="under-way",
        column_config={
            "Progress": column.ProgressColumn(format="percent", min_value=0, max_value=1),
            "Since": column.DatetimeColumn("Since (UTC)", format="HH:mm:ss"),
        },
        alt="Running cells",
    )
    if status.hidden:
        st.caption(f"and {status.hidden:,} more")


def _drivers(status: Status) -> None:
    for driver in status.drivers:
        state = "at work" if driver.alive else "gone"
        st.caption(
            plain(
                f"driver {driver.pid} on {driver.host}, version {driver.version}, {state}, heard of at "
                f"{driver.heartbeat:%H:%M:%S} UTC, {driver.running:,} runs"
            )
        )


def _failures(failures: list[RunLine]) -> None:
    if not failures:
        return
    st.subheader("Failed")
    rows = [
        {
            "Run": line.run,
            "Cell": no_formula(short(line.cell, 120)),
            "Message": no_formula(line.message or ""),
            "Grid": no_formula(line.grid or ""),
            "Finished": line.finished,
        }
        for line in failures
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="—",
        key="failures",
        column_config={
            "Message": column.TextColumn(width="large"),
            "Finished": column.DatetimeColumn("Finished (UTC)", format="YYYY-MM-DD HH:mm"),
        },
        alt="Failed cells",
    )
    st.caption("`npas-bench run … --only failed` runs them again.")
