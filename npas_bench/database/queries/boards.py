"""The tables that a database's results make, and the results of some of them: the source of boards of many runs.

Tables are chosen on an index of runs alone, and only the chosen ones' rows are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from npas_bench.database.queries.results import Result, read_results
from npas_bench.database.queries.versions import newest_only, outdated_versions
from npas_bench.database.schema import CellRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy.orm import Session

    from npas_bench.database.opening import Database


class Board(NamedTuple):
    """A table of results that have not been read yet.

    Attributes:
        key: key of the table, `RunRow.board` of its runs.
        results: number of its results, those of older versions of its task and methods included.
    """

    key: str
    results: int


class Boards(NamedTuple):
    """The tables of a database that were chosen.

    Attributes:
        chosen: the tables to show, the one with the newest result first.
        total: number of tables to choose from.
    """

    chosen: list[Board]
    total: int


class BoardFacts(NamedTuple):
    """The facts that all results of a table have in common.

    Attributes:
        key: key of the table.
        task: name of the task.
        architecture: name of the architecture.
        recipe: name of the recipe.
        data_label: name of the data that was used.
        device_class: `cpu` or `cuda`.
        results: number of its results.
    """

    key: str
    task: str
    architecture: str
    recipe: str
    data_label: str
    device_class: str
    results: int


class BudgetCount(NamedTuple):
    """The number of results that a table has at a budget."""

    budget: int
    results: int


def choose_boards(
    database: Database, *, task: str | None = None, architecture: str | None = None, limit: int | None = None
) -> Boards:
    """Choose the tables with the newest results.

    Args:
        database: open.
        task: only tables of this task; all if left out.
        architecture: only tables of this architecture; all if left out.
        limit: the largest number of tables; all if left out.
    """
    with database.session() as session:
        found = [Board(*row) for row in session.execute(_boards_query(session, task, architecture))]
    return Boards(found[:limit], len(found))


def _boards_query(session: Session, task: str | None, architecture: str | None) -> Any:
    groups = (
        select(RunRow.board, func.count().label("results"), func.max(RunRow.finished).label("newest"))
        .where(RunRow.current)
        .group_by(RunRow.board)
        .subquery()
    )
    query = select(groups.c.board, groups.c.results).order_by(groups.c.newest.desc(), groups.c.board)
    wanted = [
        column == name
        for column, name in ((CellRow.task, task), (CellRow.architecture, architecture))
        if name is not None
    ]
    if wanted:
        # All runs of a table have the same task and architecture, so one of them is enough.
        one = aliased(RunRow)
        identity = (
            select(one.identity)
            .where(one.current, one.board == groups.c.board)
            .limit(1)
            .correlate(groups)
            .scalar_subquery()
        )
        query = query.join(CellRow, CellRow.identity == identity).where(*wanted)
    outdated = outdated_versions(session)
    if outdated:
        run, cell = aliased(RunRow), aliased(CellRow)
        # The limit keeps planners from joining every run with every cell.
        shown = (
            select(run.id)
            .join(cell, cell.identity == run.identity)
            .where(run.current, run.board == groups.c.board, newest_only(outdated, cell))
            .limit(1)
            .correlate(groups)
            .scalar_subquery()
        )
        query = query.where(shown.is_not(None))
    return query


def one_board(database: Database, key: str) -> Boards:
    """The table of a key; no table if no result has the key."""
    query = select(func.count()).where(RunRow.current, RunRow.board == key)
    with database.session() as session:
        results = session.scalar(query) or 0
    return Boards([Board(key, results)] if results else [], min(results, 1))


def describe_boards(database: Database, boards: Iterable[Board]) -> list[BoardFacts]:
    """The facts about tables, in the order of task, architecture and recipe."""
    columns = (CellRow.task, CellRow.architecture, CellRow.recipe_name, RunRow.data_label, RunRow.device_class)
    found = []
    with database.session() as session:
        for board in boards:
            query = (
                select(*columns)
                .join(RunRow, CellRow.identity == RunRow.identity)
                .where(RunRow.current, RunRow.board == board.key)
            )
            row = _first(session, query)
            if row is not None:
                found.append(BoardFacts._make((board.key, *row, board.results)))
    return sorted(found, key=lambda facts: (*facts[1:-1], facts.key))


def board_full(database: Database, board: Board) -> int:
    """The number of trainable scalars of the full architecture of a table."""
    query = (
        select(CellRow.full)
        .join(RunRow, CellRow.identity == RunRow.identity)
        .where(RunRow.current, RunRow.board == board.key)
    )
    with database.session() as session:
        row = _first(session, query)
    return 0 if row is None else int(row[0])


def _first(session: Session, query: Any) -> Any:
    """The first row of a query of runs: of own runs if there are any, since an import does not decide about these."""
    own = session.execute(query.where(RunRow.origin.is_(None)).limit(1)).first()
    return own if own is not None else session.execute(query.limit(1)).first()


def board_budgets(database: Database, board: Board) -> list[BudgetCount]:
    """The budgets of a table in rising order, with the number of results at each."""
    query = (
        select(CellRow.budget, func.count())
        .join(RunRow, CellRow.identity == RunRow.identity)
        .where(RunRow.current, RunRow.board == board.key)
        .group_by(CellRow.budget)
    )
    with database.session() as session:
        return sorted(BudgetCount(*row) for row in session.execute(query))


def method_budgets(database: Database, board: Board, method: str) -> list[int]:
    """The budgets at which a table has results of a method, in rising order."""
    query = (
        select(CellRow.budget)
        .join(RunRow, CellRow.identity == RunRow.identity)
        .where(RunRow.current, RunRow.board == board.key, CellRow.method == method)
        .distinct()
    )
    with database.session() as session:
        return sorted(session.scalars(query))


def read_boards(
    database: Database,
    boards: Collection[Board],
    *,
    metric: str | None = None,
    budgets: Collection[int] | None = None,
    methods: Collection[str] | None = None,
) -> list[Result]:
    """Read the results of some tables, of the versions that count.

    Args:
        database: open.
        boards: the tables.
        metric: name of the metric to read; each task's primary one if left out.
        budgets: only these budgets; all if left out.
        methods: only methods of these names; all if left out.
    """
    with database.session() as session:
        outdated = outdated_versions(session)
    conditions = [newest_only(outdated)] if outdated else []
    if budgets is not None:
        conditions.append(CellRow.budget.in_(budgets))
    if methods is not None:
        conditions.append(CellRow.method.in_(methods))
    return read_results(database, metric=metric, boards=[board.key for board in boards], conditions=conditions)
