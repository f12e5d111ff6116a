"""The import of runs that were made elsewhere: all of them or none, each once, and marked with its origin."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from npas_bench.database.cells import add_cells
from npas_bench.database.exchange.agreement import disagreement
from npas_bench.database.exchange.files import Checked, Located, check_files, read_file, shown, stored_contents
from npas_bench.database.exchange.repetitions import refuse_wrong_repetitions
from npas_bench.database.keys import RunKey, board_key
from npas_bench.database.labels import printable
from npas_bench.database.patience import patiently
from npas_bench.database.runs import hold_current
from npas_bench.database.schema import Base, RunRow
from npas_bench.database.states import ENDED, RunState
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from npas_bench.database.exchange.record import Record
    from npas_bench.database.opening import Database

_BATCH = 500
_BATCH_BYTES = 16 * 2**20
# A driver waits five minutes for its file; an import of this size takes less than one, even on a busy machine.
MOST_BESIDE = 20_000
_ORIGIN_LENGTH = 200
_CACHE_KIB = 2**18
_RUNS = Base.metadata.tables["runs"]
# The lists of a record, each of which has a table of its own.
_LISTS = {name: Base.metadata.tables[name] for name in ("metrics", "subjects", "evaluations", "weights")}
_RUN_COLUMNS = [column.key for column in _RUNS.columns if column.key != "id"]


class Imported(NamedTuple):
    """What became of the records of an import.

    Attributes:
        added: number of records of runs that the database did not have.
        replaced: number of records that replaced an earlier attempt at the same run, which was imported too.
        known: number of records that the database had, or had a later attempt of.
        local: number of records of runs that were made in this database, which stay as they are.
    """

    added: int = 0
    replaced: int = 0
    known: int = 0
    local: int = 0

    def plus(self, other: Imported) -> Imported:
        """The sum of two imports."""
        return Imported(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class _Known(NamedTuple):
    """What an import needs to know of a run that the database has."""

    id: int
    uid: str
    key: RunKey
    state: RunState
    attempt: int
    origin: str | None
    current: bool
    created: datetime
    finished: datetime | None
    repeats: str | None

    @property
    def rank(self) -> tuple[bool, bool, float]:
        return _rank(self.state, self.origin, self.finished)


def add_records(database: Database, paths: Sequence[Path]) -> Imported:
    """Check files and add their runs to a database.

    Raises:
        DatabaseError: as `check_files` and `import_files` do.
    """
    return import_files(database, check_files(paths))


def import_files(database: Database, files: Sequence[Checked]) -> Imported:
    """Add the runs in files to a database, in one transaction.

    Args:
        database: open for writing, alone or beside a driver.
        files: the files, which were checked.

    Raises:
        DatabaseError: if a file was changed since it was checked, a record contradicts what is stored, or the database
            fails; nothing is added then.
    """
    count = sum(file.records for file in files)
    if database.location.path is not None and not database.alone and count > MOST_BESIDE:
        raise DatabaseError(
            f"database {database.location} has an npas-bench run at work on it, which {count:,} records would hold up: "
            f"import them when it is done, or in files of at most {MOST_BESIDE:,}"
        )
    try:
        return patiently(_import, database, files)
    except SQLAlchemyError as error:
        cause = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines() or ["unknown"]
        raise DatabaseError(f"database {database.location} failed: {cause[0]}. Nothing was imported") from error


def _import(database: Database, files: Sequence[Checked]) -> Imported:
    total = Imported()
    with database.session.begin() as session:
        if database.location.path is not None:
            # Keys are spread all over their indices: a small cache would write pages and read them back many times.
            session.connection().exec_driver_sql(f"PRAGMA cache_size=-{_CACHE_KIB}")
        hold_current(session, alone=True)
        last = session.scalar(select(func.max(RunRow.id))) or 0
        for file in files:
            digest = hashlib.sha256()
            for batch in _batches(read_file(file.path, digest)):
                total = total.plus(_add(session, batch, last))
            if digest.hexdigest() != file.digest:
                raise DatabaseError(
                    f"{shown(file.path)} was changed while it was read: nothing was imported; try again"
                )
    return total


def _batches(records: Iterator[Located]) -> Iterator[list[Located]]:
    """Yield some records at a time, no two of them of the same run."""
    batch: list[Located] = []
    uids: set[str] = set()
    size = 0
    for located in records:
        if len(batch) >= _BATCH or size > _BATCH_BYTES or located.record.run.uid in uids:
            yield batch
            batch, uids, size = [], set(), 0
        batch.append(located)
        uids.add(located.record.run.uid)
        size += located.size
    if batch:
        yield batch


def _add(session: Session, batch: Sequence[Located], last: int) -> Imported:
    """Add records, no two of them of the same run, to a database whose last run before the import is `last`."""
    known = {run.uid: run for run in _find(session, RunRow.uid.in_([one.record.run.uid for one in batch]))}
    fresh: list[Located] = []
    later: list[tuple[Located, _Known]] = []
    again: list[tuple[Located, _Known]] = []
    counts = {"known": 0, "local": 0}
    for located in batch:
        stored = known.get(located.record.run.uid)
        if stored is None:
            fresh.append(located)
            continue
        run = located.record.run
        if (stored.key, stored.created, stored.repeats) != (_key(located.record), run.created, run.repeats):
            raise located.wrong(f"it has the uid of another run: {_place(stored, last)}")
        if stored.attempt >= located.record.run.attempt and stored.state.ended:
            counts["known"] += 1
            again += [(located, stored)] if stored.attempt == run.attempt else []
        elif stored.origin is None:
            counts["local"] += 1
        else:
            later.append((located, stored))
    _refuse_contradictions(session, again, last)
    if fresh:
        _insert(session, fresh)
        refuse_wrong_repetitions(session, {one.record.run.uid: one for one in fresh})
    for located, stored in later:
        _replace(session, located, stored)
    return Imported(len(fresh), len(later), **counts)


def _refuse_contradictions(session: Session, again: Sequence[tuple[Located, _Known]], last: int) -> None:
    """Refuse a record that says otherwise than what is stored of the same attempt at the same run.

    Raises:
        DatabaseError: at the first such record.
    """
    stored = stored_contents(session, [run.id for _, run in again]) if again else {}
    for located, run in again:
        field = disagreement(stored[run.id], located.record.model_dump(mode="json"))
        if field is not None:
            raise located.wrong(
                f"it has the uid of {_place(run, last)}, and says otherwise of {field}: leave out the one that is wrong"
            )


def _place(run: _Known, last: int) -> str:
    return f"run {run.id} of this database" if run.id <= last else "an earlier record of this import"


def _find(session: Session, condition: Any) -> list[_Known]:
    columns = (RunRow.id, RunRow.uid, RunRow.identity, RunRow.data_digest, RunRow.device_class)
    more = (RunRow.state, RunRow.attempt, RunRow.origin, RunRow.current, RunRow.created, RunRow.finished)
    repeats = RunRow.repeats
    return [
        _Known(number, uid, RunKey(identity, digest, device_class), *rest)
        for number, uid, identity, digest, device_class, *rest in session.execute(
            select(*columns, *more, repeats).where(condition)
        )
    ]


def _insert(session: Session, fresh: Sequence[Located]) -> None:
    cells = {one.record.cell.identity: one.record.cell.model_dump() for one in fresh}
    add_cells(session, cells.values(), own=False)
    shown_now = {run.key: run for run in _find(session, RunRow.current & RunRow.identity.in_(list(cells)))}
    best = {key: run.rank for key, run in shown_now.items()}
    rows: list[dict[str, Any]] = []
    first: dict[RunKey, dict[str, Any]] = {}
    for located in fresh:
        key, row = _key(located.record), _row(located)
        rank = _rank(row["state"], row["origin"], row["finished"])
        if row["repeats"] is None and (key not in best or rank > best[key]):
            if key in first:
                first[key]["current"] = False
            best[key], first[key], row["current"] = rank, row, True
        rows.append(row)
    _unmark(session, [shown_now[key].id for key in first if key in shown_now])
    session.execute(insert(_RUNS), rows)
    uids = [row["uid"] for row in rows]
    numbers = {
        uid: number for uid, number in session.execute(select(RunRow.uid, RunRow.id).where(RunRow.uid.in_(uids)))
    }
    _insert_lists(session, [(one.record, numbers[one.record.run.uid]) for one in fresh])


def _insert_lists(session: Session, records: Sequence[tuple[Record, int]]) -> None:
    """Add what records list to their runs, whose numbers are given beside them."""
    for name, table in _LISTS.items():
        rows = [
            part.model_dump() | {"run_id": number} | ({"position": position} if "position" in table.c else {})
            for record, number in records
            for position, part in enumerate(getattr(record, name))
        ]
        if rows:
            session.execute(insert(table), rows)


def _replace(session: Session, located: Located, stored: _Known) -> None:
    """Replace an earlier attempt at a run by a record, under the same number."""
    row = _row(located) | {"origin": stored.origin}
    del row["current"]
    session.execute(update(_RUNS).where(_RUNS.c.id == stored.id).values(**row))
    for table in _LISTS.values():
        session.execute(delete(table).where(table.c.run_id == stored.id))
    _insert_lists(session, [(located.record, stored.id)])
    if stored.repeats is not None:
        return
    of_key = tuple_(RunRow.identity, RunRow.data_digest, RunRow.device_class) == tuple(stored.key)
    # If it was the run that boards show, any other run of the key may come before it now.
    rivals = RunRow.state.in_(ENDED) if stored.current else RunRow.current | (RunRow.id == stored.id)
    found = _find(session, of_key & rivals & RunRow.repeats.is_(None))
    winner = max(found, key=lambda run: (run.rank, run.current, run.id))
    _unmark(session, [run.id for run in found if run.current and run.id != winner.id])
    session.execute(update(_RUNS).where(_RUNS.c.id == winner.id).values(current=True))


def _unmark(session: Session, numbers: Sequence[int]) -> None:
    if numbers:
        session.execute(update(_RUNS).where(_RUNS.c.id.in_(numbers)).values(current=False))


def _rank(state: str, origin: str | None, finished: datetime | None) -> tuple[bool, bool, float]:
    """What boards choose by: a failed run only if all failed, then own runs, then the run that finished last."""
    return state != RunState.FAILED, origin is None, finished.timestamp() if finished else 0.0


def _key(record: Record) -> RunKey:
    return RunKey(record.cell.identity, record.run.data_digest, record.run.device_class)


def _row(located: Located) -> dict[str, Any]:
    record = located.record
    key = _key(record)
    # Fields that the record leaves out stay empty, whatever their defaults are.
    fields = dict.fromkeys(_RUN_COLUMNS) | record.run.model_dump(exclude_unset=True)
    return fields | {
        "identity": key.identity,
        "board": board_key(record.cell.canonical, key.data_digest, key.device_class),
        "current": False,
        "origin": record.run.origin or origin_of(located.path),
    }


def origin_of(path: Path) -> str:
    """The origin that runs of a file are marked with: the file's name, without its folders."""
    return printable(path.name)[:_ORIGIN_LENGTH]
