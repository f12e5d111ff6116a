"""From a database to the tables of a board: as many as can be read, however many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.cells.labels import method_label
from npas_bench.database.queries.boards import (
    board_budgets,
    board_full,
    choose_boards,
    method_budgets,
    one_board,
    read_boards,
)
from npas_bench.database.queries.reproductions import reproduced_runs
from npas_bench.database.states import RunState
from npas_bench.errors import BudgetError
from npas_bench.leaderboard.standings import REFERENCE, BoardTable, Cut, in_order, tabulate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from npas_bench.budget import Budget
    from npas_bench.database.opening import Database
    from npas_bench.database.queries.boards import Board, BudgetCount

# Results of a table that are shown at a time: budgets are added up to this, the first one however large it is.
PAGE = 5_000
# Tables that comparisons look at unless told otherwise.
MOST_COMPARED = 500


class Tables(NamedTuple):
    """Tables of a board.

    Attributes:
        shown: in the order of their names; those without a row that was asked for are left out.
        total: how many there are to choose from.
        looked_at: how many of these, with the newest results, were read.
        without: how many of these hold finished runs without the metric that was asked for.
    """

    shown: list[BoardTable]
    total: int
    looked_at: int
    without: int


@dataclass(frozen=True)
class Choice:
    """What of a database to show.

    Attributes:
        task: only of this task.
        architecture: only of this architecture.
        metric: the metric to read; left out, each task's primary one.
        lowest: leave out smaller budgets.
        highest: leave out larger budgets.
        limit: at most so many tables, those with the newest results; all if left out.
        table: key of the only table to show.
        methods: only these, by label: ranks and step times are then of no use.
        page: how many results of a table are shown at a time.
    """

    task: str | None = None
    architecture: str | None = None
    metric: str | None = None
    lowest: Budget | None = None
    highest: Budget | None = None
    limit: int | None = None
    table: str | None = None
    methods: frozenset[str] | None = None
    page: int = PAGE


def read_tables(database: Database, choice: Choice | None = None, *, beside: Sequence[Database] = ()) -> Tables:
    """The tables with the newest results.

    Ranks and step times are those of whole tables, whatever of them is shown.

    Args:
        database: open.
        choice: which, all if left out.
        beside: other databases, where cells may have been run again.
    """
    choice = choice or Choice()
    if choice.table is not None:
        boards = one_board(database, choice.table)
    else:
        boards = choose_boards(database, task=choice.task, architecture=choice.architecture, limit=choice.limit)
    reader = _Reader(database, choice, (database, *beside))
    whole = [board for board in boards.chosen if board.results <= choice.page or choice.methods]
    tables = [reader.within(table) for table in reader.read(whole)]
    for board in boards.chosen:
        if board not in whole:
            tables += reader.part(board)
    with_metric = [table for table in tables if choice.metric is None or not _without_metric(table)]
    return Tables(
        in_order(table for table in with_metric if table.bands),
        boards.total,
        len(boards.chosen),
        len(tables) - len(with_metric),
    )


def _without_metric(table: BoardTable) -> bool:
    """Whether runs are done, none of which tells the metric that was asked for."""
    runs = (run for band in table.all_bands for standing in band.standings for run in standing.runs)
    return table.metric is None and any(run.state == RunState.DONE for run in runs)


@dataclass(frozen=True)
class _Reader:
    database: Database
    choice: Choice
    databases: Sequence[Database]

    def read(self, boards: Sequence[Board], budgets: Collection[int] | None = None) -> list[BoardTable]:
        methods = self.choice.methods
        names = None if methods is None else {name for label in methods for name in _possible_names(label)}
        results = read_boards(self.database, boards, metric=self.choice.metric, budgets=budgets, methods=names)
        if methods is not None:
            results = [result for result in results if method_label(result.method, result.options) in methods]
        return tabulate(results, reproduced_runs(results, *self.databases))

    def within(self, table: BoardTable) -> BoardTable:
        """A table without the budgets that were not asked for."""
        if self.choice.lowest is None and self.choice.highest is None:
            return table
        low, high = self._ends(table.full)
        return table.choose([band for band in table.bands if low <= band.budget <= high])

    def _ends(self, full: int) -> tuple[float, float]:
        return _scalars(self.choice.lowest, full, 0), _scalars(self.choice.highest, full, float("inf"))

    def part(self, board: Board) -> list[BoardTable]:
        """As many budgets of a large table as a page takes."""
        low, high = self._ends(board_full(self.database, board))
        there = [count for count in board_budgets(self.database, board) if low <= count.budget <= high]
        taken = _taken(there, self.choice.page)
        # Step times are told relative to this method's, wherever in the table it stands.
        wanted = {*(count.budget for count in taken), *method_budgets(self.database, board, REFERENCE)}
        left = [count.budget for count in there[len(taken) :] if count.budget not in wanted]
        return [
            replace(self.within(table), cut=Cut(len(left), left[0]) if left else None)
            for table in self.read([board], wanted)
            if there
        ]


def _possible_names(label: str) -> Iterator[str]:
    """What a method may be called whose label, with or without options, is this."""
    yield label
    end = label.find(" (")
    while end >= 0:
        yield label[:end]
        end = label.find(" (", end + 1)


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
