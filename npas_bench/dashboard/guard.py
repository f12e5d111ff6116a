"""The frame of every page: errors are shown in plain words, and tracebacks go to the log."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, StopException

from npas_bench.dashboard.charts.boards import MOST_METHODS
from npas_bench.dashboard.looking import looks
from npas_bench.dashboard.words import plain
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.standings import BoardTable

log = logging.getLogger(__name__)


def page(title: str, about: str) -> Callable[[Callable[[list[Look]], None]], Callable[[], None]]:
    """Make a page of a function that draws it from the sources that can be read.

    Args:
        title: the title of the page.
        about: a sentence on what the page shows.
    """

    def wrap(draw: Callable[[list[Look]], None]) -> Callable[[], None]:
        @functools.wraps(draw)
        def guarded() -> None:
            st.title(title)
            st.caption(about)
            try:
                found = looks()
                for problem in found.problems:
                    st.error(plain(problem), icon=":material/database_off:")
                draw(found.there)
            except (RerunException, StopException):
                raise
            except NpasBenchError as error:
                st.error(plain(str(error)), icon=":material/error:")
            except Exception:
                log.exception("the page %s failed", title)
                st.error("This page failed. What went wrong is in the log of the terminal.", icon=":material/error:")

        return guarded

    return wrap


def nothing_yet(what: str = "No results yet.") -> None:
    """Say that there is nothing to show yet, and which command changes that."""
    st.info(f"{what} `npas-bench run --grid lowbudget` makes some in a few minutes.", icon=":material/info:")


def nothing_to_draw() -> None:
    """Say that no result matches what was chosen."""
    st.info("No finished run matches. Choose another task, architecture or table.", icon=":material/filter_alt_off:")


def tell_if_many(table: BoardTable) -> None:
    """Say that a page shows only some of a table's methods or budgets, if there are too many of them."""
    if table.cut is not None:
        st.warning(
            f"{table.cut.budgets:,} larger budgets, from {table.cut.after:,} parameters on, are left out.",
            icon=":material/content_cut:",
        )
    methods = {standing.label for band in table.bands for standing in band.standings}
    if len(methods) > MOST_METHODS:
        st.caption(f"Of {len(methods):,} methods the chart shows the {MOST_METHODS} that come nearest to the top.")
