"""What a page is asked to show: widgets whose values stand in the page's address, so that a link restores the view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from npas_bench.dashboard.looking import View, listed, names, tables
from npas_bench.dashboard.words import short

if TYPE_CHECKING:
    from npas_bench.dashboard.looking import Look
    from npas_bench.leaderboard.standings import BoardTable
    from npas_bench.store.boards import BoardFacts

ALL_TASKS, ALL_ARCHITECTURES, PRIMARY = "all tasks", "all architectures", "primary metric"
# Marks that a band of budgets can begin and end at; the first and the last leave it open.
_MARKS = ("0%", "1%", "2%", "5%", "10%", "25%", "50%", "100%", "any")
# Tables to choose from at a time.
_LISTED = 200
# Values stay when another page is looked at.
_KEPT: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


def choose_source(looks: list[Look]) -> list[Look]:
    """Whose results: all, a user's own, or the published board."""
    if len(looks) < 2:
        return looks
    chosen = st.segmented_control(
        "Results", ["all", *(look.short for look in looks)], default="all", required=True, key="source", **_KEPT
    )
    return [look for look in looks if chosen in ("all", look.short)]


def choose_task(looks: list[Look]) -> tuple[str | None, str | None]:
    """Task and architecture; None for all."""
    task = st.selectbox("Task", [ALL_TASKS, *_names(looks, "task")], key="task", width=180, **_KEPT)
    architecture = st.selectbox(
        "Architecture", [ALL_ARCHITECTURES, *_names(looks, "architecture")], key="architecture", width=180, **_KEPT
    )
    return None if task == ALL_TASKS else task, None if architecture == ALL_ARCHITECTURES else architecture


def choose_metric(looks: list[Look]) -> str | None:
    """A metric; None for each task's primary one."""
    metric = st.selectbox("Metric", [PRIMARY, *_names(looks, "metric")], key="metric", width=180, **_KEPT)
    return None if metric == PRIMARY else metric


def choose_view(looks: list[Look], limit: int) -> View:
    """Task, architecture, metric and a band of budgets."""
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
        highest=None if highest == _MARKS[-1] else highest if highest != _MARKS[0] else _MARKS[1],
        limit=limit,
    )


def _names(looks: list[Look], kind: str) -> list[str]:
    return sorted({name for look in looks for name in names(look, kind)})


def choose_method() -> str:
    """Part of a method's name or options."""
    written: str = st.text_input(
        "Method", key="method", placeholder="search", type="search", live=True, width=180, **_KEPT
    )
    return written.strip()


def choose_table(looks: list[Look]) -> tuple[Look, BoardTable] | None:
    """One table, by task, architecture and what else tells tables apart; None if there is none."""
    chosen = choose_source(looks)
    task, architecture = choose_task(looks)
    metric = choose_metric(looks)
    pairs = [(look, facts) for look in chosen for facts in listed(look, task, architecture, _LISTED)[0]]
    if not pairs:
        return None
    titles = [_title(look, facts) for look, facts in pairs]
    for place, (_, facts) in enumerate(pairs):
        if titles.count(titles[place]) > 1:
            # Recipes or data of one name that are not the same.
            titles[place] = f"{titles[place]} · {facts.key[-4:]}"
    # At first, the one that has most to show.
    most = max(range(len(pairs)), key=lambda place: pairs[place][1].results)
    table = st.selectbox("Table", titles, index=most, key="table", width=420, **_KEPT)
    look, facts = pairs[titles.index(table)]
    others = tuple(other for other in looks if other is not look)
    shown = tables(look, View(metric=metric, table=facts.key), others).shown
    return (look, shown[0]) if shown else None


def _title(look: Look, facts: BoardFacts) -> str:
    """Of a table, the same wherever it is listed: links name it so."""
    parts = (facts.task, facts.architecture, facts.recipe, facts.data_label, facts.device_class, look.short)
    return short(" · ".join(parts), 160)
