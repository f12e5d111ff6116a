"""Reading the tables of a board from a database, in parts where the database or a table is very large."""

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
from npas_bench.database.queries.reproductions import contradicted_runs, reproduced_runs
from npas_bench.database.states import RunState
from npas_bench.errors import BudgetError
from npas_bench.leaderboard.published import is_published
from npas_bench.leaderboard.standings import REFERENCE, BoardTable, Cut, Marks, in_order, tabulate
from npas_bench.leaderboard.texts import decimals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from npas_bench.budget import Budget
    from npas_bench.database.opening import Database
    from npas_bench.database.queries.boards import Board, BudgetCount

# How many results of a table are shown at a time: budgets are added up to this number. The first is always shown.
PAGE = 5_000
# How many tables a comparison looks at unless told otherwise.
MOST_COMPARED = 500


class Tables(NamedTuple):
    """Tables of a board.

    Attributes:
        shown: the tables with a row that was asked for, in the order of their names.
        total: how many tables there are to choose from.
        looked_at: how many of them were read: those with the newest results.
        without: how many of the tables read hold finished runs, but not the metric that was asked for.
    """

    shown: list[BoardTable]
    total: int
    looked_at: int
    without: int


@dataclass(frozen=True)
class Choice:
    """Which results of a database to show. What is None does not limit the choice.

    Attributes:
        task: the only task to show.
        architecture: the only architecture to show.
        metric: the metric to read; if None, each task's primary one.
        lowest: the smallest budget to show.
        highest: the largest budget to show.
        limit: the largest number of tables to read; those with the newest results are read.
        table: the key of the only table to show.
        methods: the labels of the only methods to read; ranks and step times are then meaningless.
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
    """Read the tables with the newest results.

    Ranks and step times come from whole tables, even if only some of their rows are shown.

    Args:
        database: the database to read, open.
        choice: which results to show; all if left out.
        beside: other databases, in which cells may have been run again.
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
    """Tell whether a table has finished runs, but none with the metric that was asked for."""
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
        marks = Marks(
            reproduced_runs(results, *self.databases),
            contradicted_runs(results, self.database, _as_shown),
            is_published(self.database.location),
        )
        return tabulate(results, marks)

    def within(self, table: BoardTable) -> BoardTable:
        """The table with only those budgets that were asked for."""
        if self.choice.lowest is None and self.choice.highest is None:
            return table
        low, high = self._ends(table.full)
        return table.choose([band for band in table.bands if low <= band.budget <= high])

    def _ends(self, full: int) -> tuple[float, float]:
        return _scalars(self.choice.lowest, full, 0), _scalars(self.choice.highest, full, float("inf"))

    def part(self, board: Board) -> list[BoardTable]:
        """The first budgets of a large table, as many as fit a page."""
        low, high = self._ends(board_full(self.database, board))
        there = [count for count in board_budgets(self.database, board) if low <= count.budget <= high]
        taken = _taken(there, self.choice.page)
        # Step times are relative to this method's, so its budgets are read wherever they are in the table.
        wanted = {*(count.budget for count in taken), *method_budgets(self.database, board, REFERENCE)}
        left = [count.budget for count in there[len(taken) :] if count.budget not in wanted]
        return [
            replace(self.within(table), cut=Cut(len(left), left[0]) if left else None)
            for table in self.read([board], wanted)
            if there
        ]


def _as_shown(value: float, unit: str | None) -> float:
    """A value as a board shows it, which shows no smaller differences."""
    return round(value, decimals(unit or ""))


def _possible_names(label: str) -> Iterator[str]:
    """The names that a method with this label may have: the label may end with options or not."""
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
        # The budget is less than one parameter of this architecture, or more than any network has.
        return float(budget.amount * full if budget.relative else budget.amount)


def _taken(budgets: list[BudgetCount], page: int) -> list[BudgetCount]:
    taken, results = 0, 0
    for count in budgets:
        results += count.results
        if taken and results > page:
            break
        taken += 1
    return budgets[:taken]
