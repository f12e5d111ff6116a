"""From a store to the tables of a board: as many as can be read, however many there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.leaderboard.standings import REFERENCE, BoardTable, Cut, in_order, tabulate
from npas_bench.store.boards import board_budgets, choose_boards, method_budgets, read_boards

if TYPE_CHECKING:
    from npas_bench.store.boards import Board, BudgetCount
    from npas_bench.store.database import Store

# Results of a table that are shown at a time: budgets are added up to this, the first one however large it is.
PAGE = 5_000


class Tables(NamedTuple):
    """Tables of a board.

    Attributes:
        shown: in the order of their names.
        total: how many there are to choose from.
    """

    shown: list[BoardTable]
    total: int


def read_tables(
    store: Store,
    *,
    task: str | None = None,
    architecture: str | None = None,
    metric: str | None = None,
    limit: int | None = None,
    smallest: int | None = None,
    page: int = PAGE,
) -> Tables:
    """The tables with the newest results.

    Args:
        store: open.
        task: only of this task.
        architecture: only of this architecture.
        metric: the metric to read; left out, each task's primary one.
        limit: at most so many tables; all if left out.
        smallest: leave out smaller budgets.
        page: how many results of a table are shown at a time.
    """
    boards = choose_boards(store, task=task, architecture=architecture, limit=limit)
    whole: list[Board] = []
    large: list[Board] = []
    for board in boards.chosen:
        (large if board.results > page or smallest is not None else whole).append(board)
    tables = tabulate(read_boards(store, whole, metric=metric))
    for board in large:
        tables += _part(store, board, metric, smallest or 0, page)
    return Tables(in_order(tables), boards.total)


def _part(store: Store, board: Board, metric: str | None, smallest: int, page: int) -> list[BoardTable]:
    there = [count for count in board_budgets(store, board) if count.budget >= smallest]
    taken = _taken(there, page)
    # Step times are told relative to this method's, wherever in the table it stands.
    wanted = {*(count.budget for count in taken), *method_budgets(store, board, REFERENCE)}
    left = [count.budget for count in there[len(taken) :] if count.budget not in wanted]
    return [
        replace(
            table,
            bands=[band for band in table.bands if band.budget >= smallest],
            cut=Cut(len(left), left[0]) if left else None,
        )
        for table in tabulate(read_boards(store, [board], metric=metric, budgets=wanted))
        if there
    ]


def _taken(budgets: list[BudgetCount], page: int) -> list[BudgetCount]:
    taken, results = 0, 0
    for count in budgets:
        results += count.results
        if taken and results > page:
            break
        taken += 1
    return budgets[:taken]
