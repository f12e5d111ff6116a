"""Looking a database over: whether its content is whole, and whether one part of it agrees with the others."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import case, func, or_, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import aliased

from npas_bench.cells.cell import IDENTITY_VERSION
from npas_bench.database.contents import LARGEST, infinite_columns, unreadable_columns
from npas_bench.database.drivers import dead_drivers
from npas_bench.database.exchange.record import CellRecord
from npas_bench.database.keys import board_key
from npas_bench.database.left_logs import advice_about_logs
from npas_bench.database.schema import (
    RANKING_SUBJECT,
    CellRow,
    DriverRow,
    EvaluationRow,
    MetricRow,
    RunRow,
    SubjectRow,
    WeightsRow,
)
from npas_bench.database.states import ENDED, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from npas_bench.database.opening import Database

_PAGE = 2000
_SHOWN = 5


class Fault(NamedTuple):
    """One kind of damage or contradiction.

    Attributes:
        what: a sentence that says what is wrong, and where.
        remedy: a sentence that says what to do about it.
    """

    what: str
    remedy: str


def find_faults(database: Database) -> list[Fault]:
    """List what is wrong with a database; that it could be opened shows that its schema is right.

    Args:
        database: open, for reading at least.
    """
    broken = list(_broken_file(database)) or list(_unreadable(database))
    if broken:
        # Whatever else is found may come from the damage.
        return broken
    return [
        *_wrong_cells(database),
        *_without_an_end(database),
        *_wrong_results(database),
        *_wrong_evaluations(database),
        *_infinite_numbers(database),
        *_wrong_repetitions(database),
        *_wrong_currents(database),
        *_wrong_boards(database),
        *_left(database),
    ]


def find_damage(database: Database) -> list[Fault]:
    """List what is damaged: what no program of this package leaves behind, and readers may fail on.

    Args:
        database: open, for reading at least.
    """
    # What one of them finds, the next may fail on.
    looks = (_broken_file, _unreadable, _without_an_end, _wrong_cells)
    return next((faults for look in looks if (faults := list(look(database)))), [])


def _unreadable(database: Database) -> Iterator[Fault]:
    for column, count, example in unreadable_columns(database):
        yield Fault(f"{_count(count, 'value', 'of', 'of')} {column} cannot be read: {example}", _PUT_BACK)


def _without_an_end(database: Database) -> Iterator[Fault]:
    query = select(RunRow.id).where(RunRow.state.in_(ENDED), RunRow.finished.is_(None)).order_by(RunRow.id)
    with database.session() as session:
        found = session.scalars(query).all()
    if found:
        what = _count(len(found), "value", "of runs.finished is missing", "of runs.finished are missing")
        yield Fault(f"{what}, though the runs have ended: {_some(found)}", _PUT_BACK)


_PUT_BACK = "Put back a copy of it, or save what can be read with npas-bench export and import it into a new one"


def _broken_file(database: Database) -> Iterator[Fault]:
    if database.engine.dialect.name != "sqlite":
        return
    with database.engine.connect() as connection:
        try:
            said = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(5)")]
        except DatabaseError as error:
            # The check itself fails on a badly damaged file.
            said = [str(error.orig)]
        if said != ["ok"]:
            about_logs = advice_about_logs(database.location)
            yield Fault(
                f"the file is damaged: {'; '.join(said)[:300]}",
                f"{about_logs}. {_PUT_BACK}" if about_logs else _PUT_BACK,
            )
            return
        strays = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(10_000)
        if strays:
            places = sorted({f"{table} to {parent}" for table, _, parent, _ in strays})
            yield Fault(
                f"{_count(len(strays), 'row', 'refers', 'refer')} to what is not there ({', '.join(places)})",
                "Put back a copy of the file, or export it and import that into a new one",
            )


def _wrong_cells(database: Database) -> Iterator[Fault]:
    wrong = []
    last = ""
    while True:
        query = select(CellRow).where(CellRow.identity > last)
        with database.session() as session:
            cells = session.scalars(query.order_by(CellRow.identity).limit(_PAGE)).all()
        wrong += [cell.identity[:12] for cell in cells if not _is_what_its_identity_says(cell)]
        if len(cells) < _PAGE:
            break
        last = cells[-1].identity
    if wrong:
        yield Fault(
            f"{_count(len(wrong), 'cell', 'is', 'are')} not what the identity says: {_some(wrong)}",
            "They were changed by hand or damaged: put back a copy of the database, or run these cells in a new one",
        )


def _is_what_its_identity_says(cell: CellRow) -> bool:
    if hashlib.sha256(cell.canonical.encode()).hexdigest() != cell.identity:
        return False
    if cell.identity_version != IDENTITY_VERSION:
        return True
    said = CellRecord.model_construct(**{name: getattr(cell, name) for name in CellRecord.model_fields})
    return cell.full > 0 and said.determining() == json.loads(cell.canonical)


def _wrong_results(database: Database) -> Iterator[Fault]:
    with database.session() as session:
        measured = select(MetricRow.run_id).where(MetricRow.run_id == RunRow.id, MetricRow.position == 0).exists()
        done = RunRow.state == RunState.DONE
        bare = session.scalars(select(RunRow.id).where(done, ~measured).order_by(RunRow.id)).all()
        # SQLite keeps NaN as NULL, and PostgreSQL sorts it behind all numbers.
        odd = or_(MetricRow.value.is_(None), ~MetricRow.value.between(-LARGEST, LARGEST))
        infinite = session.scalars(select(MetricRow.run_id).where(odd).distinct().order_by(MetricRow.run_id)).all()
    if bare:
        yield Fault(f"{_count(len(bare), 'run', 'has', 'have')} no metrics, though done: {_some(bare)}", _AGAIN)
    if infinite:
        yield Fault(
            f"{_count(len(infinite), 'run', 'has', 'have')} metrics that are no finite numbers: {_some(infinite)}",
            _AGAIN,
        )


_AGAIN = "Put back a copy of the database, or run their cells in a new one (npas-bench show RUN has the command)"


def _wrong_evaluations(database: Database) -> Iterator[Fault]:
    value = EvaluationRow.value
    there = select(SubjectRow.id).where(
        SubjectRow.run_id == EvaluationRow.run_id, SubjectRow.name == EvaluationRow.subject
    )
    of_no_subject = select(EvaluationRow.run_id).where(EvaluationRow.subject != RANKING_SUBJECT, ~there.exists())
    infinite = select(EvaluationRow.run_id).where(or_(value.is_(None), ~value.between(-LARGEST, LARGEST)))
    of_unfinished = [
        select(number).join(RunRow, RunRow.id == number).where(RunRow.state != RunState.DONE)
        for number in (EvaluationRow.run_id, SubjectRow.run_id, WeightsRow.run_id)
    ]
    for queries, what in (
        ([infinite], "evaluations that are no finite numbers"),
        ([of_no_subject], "evaluations of a subject that is not there"),
        (of_unfinished, "evaluations, subjects or weights, though not done"),
    ):
        with database.session() as session:
            wrong = sorted({number for query in queries for number in session.scalars(query.distinct())})
        if wrong:
            yield Fault(f"{_count(len(wrong), 'run', 'has', 'have')} {what}: {_some(wrong)}", _AGAIN)


def _infinite_numbers(database: Database) -> Iterator[Fault]:
    for column, count, example in infinite_columns(database):
        yield Fault(f"{_count(count, 'value', 'of', 'of')} {column} {_NOT_FINITE[count > 1]}: {example}", _AGAIN)


_NOT_FINITE = ("is no finite number", "are no finite numbers")


def _wrong_repetitions(database: Database) -> Iterator[Fault]:
    repeated = aliased(RunRow)
    of_another_cell = (
        select(RunRow.id)
        .join(repeated, repeated.uid == RunRow.repeats)
        .where(
            or_(
                repeated.identity != RunRow.identity,
                repeated.data_digest != RunRow.data_digest,
                repeated.device_class != RunRow.device_class,
            )
        )
        .order_by(RunRow.id)
    )
    shown = select(RunRow.id).where(RunRow.repeats.is_not(None), RunRow.current).order_by(RunRow.id)
    with database.session() as session:
        on_boards, of_others = session.scalars(shown).all(), session.scalars(of_another_cell).all()
        endless = _endless(session)
    for wrong, one, many, remedy in (
        (on_boards, "repeats another and is shown on boards", "repeat others and are shown on boards", _MARK_ANEW),
        (of_others, "repeats a run of another cell", "repeat runs of other cells", _AGAIN),
        (endless, "repeats itself by way of others", "repeat themselves by way of others", _AGAIN),
    ):
        if wrong:
            yield Fault(f"{_count(len(wrong), 'run', one, many)}: {_some(wrong)}", remedy)


def _endless(session: Session) -> list[int]:
    """The repetitions from which no way leads to a run that repeats nothing."""
    query = select(RunRow.id, RunRow.uid, RunRow.repeats).where(RunRow.repeats.is_not(None)).order_by(RunRow.id)
    rows = session.execute(query).all()
    left = {row.uid: row.repeats for row in rows}
    while ends := [uid for uid, repeats in left.items() if repeats not in left]:
        for uid in ends:
            del left[uid]
    return [row.id for row in rows if row.uid in left]


_MARK_ANEW = "Export the database and import that into a new one, which marks them anew"


def _wrong_currents(database: Database) -> Iterator[Fault]:
    ended = RunRow.state.in_(ENDED)
    marked = func.sum(case((RunRow.current, 1), else_=0))
    proper = func.sum(case((RunRow.current & ended, 1), else_=0))
    some_ended = func.sum(case((ended, 1), else_=0))
    query = (
        select(func.min(RunRow.id))
        .where(RunRow.repeats.is_(None))
        .group_by(RunRow.identity, RunRow.data_digest, RunRow.device_class)
        .having(or_((some_ended > 0) & (proper != 1), marked != proper))
    )
    with database.session() as session:
        wrong = sorted(session.scalars(query))
    if wrong:
        yield Fault(
            f"{_count(len(wrong), 'cell', 'has', 'have')} no run, or several, that boards show: see run {_some(wrong)}",
            _MARK_ANEW,
        )


def _wrong_boards(database: Database) -> Iterator[Fault]:
    wrong = []
    last = 0
    columns = (RunRow.id, RunRow.board, RunRow.data_digest, RunRow.device_class, CellRow.canonical)
    while True:
        query = select(*columns).join(CellRow, CellRow.identity == RunRow.identity).where(RunRow.id > last)
        with database.session() as session:
            rows = session.execute(query.order_by(RunRow.id).limit(_PAGE)).all()
        for row in rows:
            try:
                right = board_key(row.canonical, row.data_digest, row.device_class) == row.board
            except (ValueError, AttributeError):
                right = False
            if not right:
                wrong.append(row.id)
        if len(rows) < _PAGE:
            break
        last = rows[-1].id
    if wrong:
        yield Fault(
            f"{_count(len(wrong), 'run', 'stands', 'stand')} on another board than the cell: {_some(wrong)}",
            "Export the database and import that into a new one, which places them anew",
        )


def _left(database: Database) -> Iterator[Fault]:
    """Runs that are stored as running though no driver runs them; the next `npas-bench run` goes on with them."""
    dead = dead_drivers(database)
    with database.session() as session:
        alive = set(session.scalars(select(DriverRow.id).where(DriverRow.ended.is_(None)))) - dead
        rows = session.execute(
            select(RunRow.id, RunRow.driver).where(RunRow.state == RunState.RUNNING).order_by(RunRow.id)
        ).all()
        stale = session.scalars(select(RunRow.id).where(RunRow.state == RunState.STALE).order_by(RunRow.id)).all()
    left = sorted([row.id for row in rows if row.driver not in alive] + list(stale))
    if left:
        yield Fault(
            f"{_count(len(left), 'run', 'was', 'were')} left behind by a driver that lives no more: {_some(left)}",
            "The command that started them goes on with them",
        )


def _count(number: int, what: str, one: str, many: str) -> str:
    return f"1 {what} {one}" if number == 1 else f"{number:,} {what}s {many}"


def _some(values: Sequence[object]) -> str:
    more = f" and {len(values) - _SHOWN:,} more" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more
