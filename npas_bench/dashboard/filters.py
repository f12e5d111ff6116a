"""Widgets to choose what a page shows. Their values are part of the page's address, so a link restores the view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from npas_bench.dashboard.looking import View, listed, names, tables
from npas_bench.dashboard.words import plain
from npas_bench.database.labels import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.dashboard.looking import Look
    from npas_bench.database.queries.boards import BoardFacts
    from npas_bench.leaderboard.standings import BoardTable

ALL_TASKS, ALL_ARCHITECTURES, PRIMARY = "all tasks", "all architectures", "primary metric"
# A range of budgets begins and ends at these marks; the first and the last mark leave it open.
_MARKS = ("0%", "1%", "2%", "5%", "10%", "25%", "50%", "100%", "any")
# How many tables can be chosen from at a time.
_LISTED = 200
# What is chosen stays chosen on the other pages.
_KEPT: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


def tell_if_gone(key: str, options: Sequence[str]) -> None:
    """Warn where the page's address names something that cannot be chosen, because the page then shows something else.

    Args:
        key: the key in the address.
        options: the names that can be chosen.
    """
    named = [name for name in st.query_params.get_all(key) if name not in options]
    if named:
        st.warning(
            plain(
                f"The link names {', '.join(short(name) for name in named[:3])}, which is not among the results here."
            ),
            icon=":material/link_off:",
        )


def choose_source(looks: list[Look]) -> list[Look]:
    """Choose whose results to show: all, the user's own, or those of the published board."""
    if len(looks) < 2:
        return looks
    chosen = st.segmented_control(
        "Results", ["all", *(look.short for look in looks)], default="all", required=True, key="source", **_KEPT
    )
    return [look for look in looks if chosen in ("all", look.short)]


def choose_task(looks: list[Look]) -> tuple[str | None, str | None]:
    """Choose a task and an architecture; None stands for all of them."""
    task = choose_name("Task", "task", [ALL_TASKS, *_names(looks, "task")])
    architecture = choose_name("Architecture", "architecture", [ALL_ARCHITECTURES, *_names(looks, "architecture")])
    return None if task == ALL_TASKS else task, None if architecture == ALL_ARCHITECTURES else architecture


def choose_metric(looks: list[Look]) -> str | None:
    """Choose a metric; None stands for each task's primary one."""
    metric = choose_name("Metric", "metric", [PRIMARY, *_names(looks, "metric")])
    return None if metric == PRIMARY else metric


def choose_view(looks: list[Look], limit: int) -> View:
    """Choose a task, an architecture, a metric and a range of budgets.

    Args:
        looks: the sources of results.
        limit: the largest number of tables that the view shows.
    """
    task, architecture = choose_task(looks)
    metric = choose_metric(looks)
    lowest, highest = st.select_slider(
        "Budget (share of the full architecture)",
        list(_MARKS),
        value=(_MARKS[0], _MARKS[-1]),
        key="budget",
        width=280,
        **_KEPT,
    )
    return View(
        task=task,
        architecture=architecture,
        metric=metric,
        lowest=None if lowest in (_MARKS[0], _MARKS[-1]) else lowest,
        # No network is as small as one parameter, so this shows nothing.
        highest={_MARKS[-1]: None, _MARKS[0]: "1"}.get(highest, highest),
        limit=limit,
    )


def choose_name(label: str, key: str, options: Sequence[str], *, at_first: int = 0, width: int = 180) -> str:
    """Choose one of some names.

    Args:
        label: what is chosen, as the page shows it.
        key: the key of the choice in the page's address.
        options: the names.
        at_first: the index of the name that is chosen at first.
        width: the width of the widget in pixels.
    """
    tell_if_gone(key, options)
    chosen: str = st.selectbox(
        label, options, index=at_first, key=key, width=width, bind="query-params", persist_state="session"
    )
    return chosen


def _names(looks: list[Look], kind: str) -> list[str]:
    return sorted({name for look in looks for name in names(look, kind)})


def choose_method() -> str:
    """Enter a part of a method's name or options to search for."""
    written: str = st.text_input(
        "Method", key="method", placeholder="search", type="search", live=True, width=180, **_KEPT
    )
    return written.strip()


def choose_table(looks: list[Look]) -> tuple[Look, BoardTable] | None:
    """Choose one table, by task, architecture and whatever else differs between tables; None if there is none."""
    chosen = choose_source(looks)
    task, architecture = choose_task(looks)
    metric = choose_metric(looks)
    found = [(look, *listed(look, task, architecture, _LISTED)) for look in chosen]
    pairs = [(look, facts) for look, some, _ in found for facts in some]
    unseen = sum(total - len(some) for _, some, total in found)
    if unseen:
        st.caption(f"{unseen:,} tables with older results are not listed: choose a task or an architecture.")
    if not pairs:
        return None
    titles = [_title(look, facts) for look, facts in pairs]
    for place, (_, facts) in enumerate(pairs):
        if titles.count(titles[place]) > 1:
            # The recipes or the data have the same name but are not the same.
            titles[place] = f"{titles[place]} · {facts.key[-4:]}"
    # The table with the most results is chosen at first.
    most = max(range(len(pairs)), key=lambda place: pairs[place][1].results)
    table = choose_name("Table", "table", titles, at_first=most, width=420)
    look, facts = pairs[titles.index(table)]
    others = tuple(other for other in looks if other is not look)
    shown = tables(look, View(metric=metric, table=facts.key), others).shown
    return (look, shown[0]) if shown else None


def _title(look: Look, facts: BoardFacts) -> str:
    """The title of a table, the same wherever it is listed, because links use it."""
    parts = (facts.task, facts.architecture, facts.recipe, facts.data_label, facts.device_class, look.short)
    return short(" · ".join(parts), 160)
