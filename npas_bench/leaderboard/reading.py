"""From a store to the tables of a board: as many as can be read, however many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import BudgetError
from npas_bench.leaderboard.standings import REFERENCE, BoardTable, Cut, in_order, tabulate
from npas_bench.store.boards import board_budgets, board_full, choose_boards, method_budgets, one_board, read_boards
from npas_bench.store.reproductions import reproduced_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.budget import Budget
    from npas_bench.store.boards import Board, BudgetCount
    from npas_bench.store.database import Store
    from npas_bench.store.results import Result

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


@dataclass(frozen=True)
class Choice:
    """What of a store to show.

    Attributes:
        task: only of this task.
        architecture: only of this architecture.
        metric: the metric to read; left out, each task's primary one.
        lowest: leave out smaller budgets.
        highest: leave out larger budgets.
        limit: at most so many tables, those with the newest results; all if left out.
        table: key of the only table to show.
        page: how many results of a table are shown at a time.
    """

    task: str | None = None
    architecture: str | None = None
    metric: str | None = None
    lowest: Budget | None = None
    highest: Budget | None = None
    limit: int | None = None
    table: str | None = None
    page: int = PAGE


def read_tables(store: Store, choice: Choice | None = None, *, beside: Sequence[Store] = ()) -> Tables:
    """The tables with the newest results.

    Ranks and step times are those of whole tables, whatever of them is shown.

    Args:
        store: open.
        choice: which, all if left out.
        beside: other stores, where cells may have been run again.
    """
    choice = choice or Choice()
    if choice.table is not None:
        boards = one_board(store, choice.table)
    else:
        boards = choose_boards(store, task=choice.task, architecture=choice.architecture, limit=choice.limit)
    reader = _Reader(store, choice, (store, *beside))
    whole = [board for board in boards.chosen if board.results <= choice.page]
    tables = [reader.within(table) for table in reader.tables(read_boards(store, whole, metric=choice.metric))]
    for board in boards.chosen:
        if board.results > choice.page:
            tables += reader.part(board)
    return Tables(in_order(table for table in tables if table.bands), boards.total)


@dataclass(frozen=True)
class _Reader:
    store: Store
    choice: Choice
    stores: Sequence[Store]

    def tables(self, results: list[Result]) -> list[BoardTable]:
        return tabulate(results, reproduced_runs(results, *self.stores))

    def within(self, table: BoardTable) -> BoardTable:
        """A table without the budgets that were not asked for."""
        if self.choice.lowest is None and self.choice.highest is None:
            return table
        low, high = self._ends(table.full)
        return replace(table, bands=[band for band in table.bands if low <= band.budget <= high])

    def _ends(self, full: int) -> tuple[float, float]:
        return _scalars(self.choice.lowest, full, 0), _scalars(self.choice.highest, full, float("inf"))

    def part(self, board: Board) -> list[BoardTable]:
        """As many budgets of a large table as a page takes."""
        low, high = self._ends(board_full(self.store, board))
        there = [count for count in board_budgets(self.store, board) if low <= count.budget <= high]
        taken = _taken(there, self.choice.page)
        # Step times are told relative to this method's, wherever in the table it stands.
        wanted = {*(count.budget for count in taken), *method_budgets(self.store, board, REFERENCE)}
        left = [count.budget for count in there[len(taken) :] if count.budget not in wanted]
        results = read_boards(self.store, [board], metric=self.choice.metric, budgets=wanted)
        return [
            replace(self.within(table), cut=Cut(len(left), left[0]) if left else None)
            for table in self.tables(results)
            if there
        ]


def _scalars(budget: Budget | None, full: int, otherwise: float) -> float:
    if budget is None:
        return otherwise
    try:
        return budget.resolve(full)
    except BudgetError:
        # Less than one parameter of this architecture, or more than any network has.
        return float(budget.amount * full if budget.relative else budget.amount)


def _taken(budgets: list[BudgetCount], page: int) -> list[BudgetCount]:
    taken, results = 0, 0
    for count in budgets:
        results += count.results
        if taken and results > page:
            break
        taken += 1
    return budgets[:taken]
