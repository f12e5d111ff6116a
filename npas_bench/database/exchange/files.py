"""Files of JSON lines, in which results travel from the database that they were made in to others.

`docs/exchange.md` says what a user can rely on.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

from sqlalchemy import select

from npas_bench.database.exchange.installed import contradiction
from npas_bench.database.exchange.reading import BadRecord, read_record
from npas_bench.database.exchange.record import FORMAT
from npas_bench.database.labels import printable
from npas_bench.database.plain_files import refuse_to_replace
from npas_bench.database.runs import now
from npas_bench.database.schema import Base, CellRow, EvaluationRow, MetricRow, RunRow, SubjectRow, WeightsRow
from npas_bench.database.states import ENDED
from npas_bench.errors import DatabaseError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from npas_bench.database.exchange.record import Record
    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database

# Columns that are of use only in the database that a run was made in.
_LOCAL = {"id", "identity", "token", "superseded", "driver", "epoch", "board", "current"}
_CELL_FIELDS = [column.key for column in CellRow.__table__.columns]
_RUN_FIELDS = [column.key for column in RunRow.__table__.columns if column.key not in _LOCAL]
# Left out of a record where they have no value: most runs have none.
_RARE_FIELDS = ("repeats", "reported_epoch", "plugins")
_METRIC_FIELDS = ("name", "value", "position", "unit", "higher_is_better")
# The tables that hold rows of a run, as lists of a record: columns, and the column that orders them.
_LISTS: dict[str, tuple[type[Base], tuple[str, ...], Any]] = {
    "metrics": (MetricRow, _METRIC_FIELDS, MetricRow.position),
    "subjects": (
        SubjectRow,
        ("name", "parameters", "forward_flops", "latency_seconds", "detail"),
        SubjectRow.id,
    ),
    "evaluations": (
        EvaluationRow,
        ("subject", "split", "metric", "value", "unit", "higher_is_better"),
        EvaluationRow.position,
    ),
    "weights": (WeightsRow, ("kind", "file", "sha256", "bytes"), WeightsRow.kind),
}
# The longest texts of a record. Where a run is made they may be longer, since SQLite does not limit its columns.
_LONGEST = {"grid": 1000, "message": 20_000, "detail": 200_000} | dict.fromkeys(
    ("data_name", "data_label", "device", "host"), 200
)
_PAGE = 500
_LONGEST_LINE = 16 * 2**20
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Checked(NamedTuple):
    """A file of which every line was found to be a record.

    Attributes:
        path: path of the file.
        records: number of its records.
        digest: digest of its content.
    """

    path: Path
    records: int
    digest: str


class Located(NamedTuple):
    """A record with its place.

    Attributes:
        path: path of the file that it is in.
        line: number of its line, from 1.
        record: the record.
        size: bytes of its line.
    """

    path: Path
    line: int
    record: Record
    size: int

    def wrong(self, what: str) -> DatabaseError:
        """An error that names the place of the record."""
        return _wrong(self.path, self.line, what)


def export_records(database: Database, *, grid: GridRuns | None = None, task: str | None = None) -> Iterator[str]:
    """Yield every ended run of a database as a JSON line, the oldest first.

    A run that ends in the meantime may be among them or not.

    Args:
        database: open.
        grid: only runs of this grid.
        task: only runs of this task.

    Raises:
        NpasBenchError: if the database has no run of that grid or task.
        DatabaseError: if a stored number is not finite, which JSON cannot say.
    """
    _check_names(database, grid, task)
    query = _stored().where(RunRow.state.in_(ENDED)).order_by(RunRow.id).limit(_PAGE)
    if grid is not None:
        query = query.where(grid.condition(database))
    if task is not None:
        query = query.where(CellRow.task == task)
    last = 0
    while True:
        # Every page is a transaction of its own, so that an export into a slow pipe does not keep drivers waiting.
        with database.session() as session:
            rows = session.execute(query.where(RunRow.id > last)).all()
            lists = _lists_of(session, rows)
        for row in rows:
            yield _line(row, lists[row.id])
        if len(rows) < _PAGE:
            return
        last = rows[-1].id


def stored_contents(session: Session, runs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The fields of the records that an export of some runs that have ended would write, by number."""
    rows = session.execute(_stored().where(RunRow.id.in_(runs))).all()
    lists = _lists_of(session, rows)
    return {row.id: _content(row, lists[row.id]) for row in rows}


def _stored() -> Any:
    cell = (CellRow.__table__.c[name].label(f"cell_{name}") for name in _CELL_FIELDS)
    return select(RunRow.__table__, *cell).join(CellRow, CellRow.identity == RunRow.identity)


def _lists_of(session: Session, rows: Sequence[Row[Any]]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """The lists of some runs' records, by run and by name."""
    numbers = [row.id for row in rows]
    found = {name: _rows_of(session, name, numbers) for name in _LISTS}
    return {number: {name: of_runs.get(number, []) for name, of_runs in found.items()} for number in numbers}


def _rows_of(session: Session, name: str, runs: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The rows of some runs in one of the tables, by run and in order, without the fields that have no value."""
    row, fields, order = _LISTS[name]
    table = row.__table__
    found: dict[int, list[dict[str, Any]]] = {}
    query = select(table).where(table.c.run_id.in_(runs)).order_by(order)
    for one in session.execute(query) if runs else ():
        values = {field: getattr(one, field) for field in fields}
        found.setdefault(one.run_id, []).append({key: value for key, value in values.items() if value is not None})
    return found


def _line(row: Row[Any], lists: dict[str, list[dict[str, Any]]]) -> str:
    try:
        return json.dumps(_content(row, lists), sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise DatabaseError(f"run {row.id} cannot be exported: {error}. npas-bench db check looks for more") from None


def _content(row: Row[Any], lists: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The fields of a record of a stored run."""
    run = {name: getattr(row, name) for name in _RUN_FIELDS}
    # A clock that was set back may have put the times of a run of an older version out of order.
    run["started"] = run["started"] and max(run["created"], run["started"])
    run["finished"] = max(run["started"] or run["created"], run["finished"])
    for name, value in run.items():
        if isinstance(value, datetime):
            run[name] = value.isoformat().replace("+00:00", "Z")
    for name, length in _LONGEST.items():
        if run[name] is not None:
            run[name] = run[name].replace("\0", "")[:length]
    return {
        "format": FORMAT,
        "cell": {name: getattr(row, f"cell_{name}") for name in _CELL_FIELDS},
        "run": {name: value for name, value in run.items() if value is not None or name not in _RARE_FIELDS},
        **{name: rows for name, rows in lists.items() if rows or name == "metrics"},
    }


def _check_names(database: Database, grid: GridRuns | None, task: str | None) -> None:
    with database.session() as session:
        if grid is not None and session.scalar(select(RunRow.id).where(grid.condition(database)).limit(1)) is None:
            raise grid.without_runs(database)
        if task is not None:
            known = set(session.scalars(select(CellRow.task).distinct()))
            if task not in known:
                raise UnknownName("task", task, known, remedy="of those with runs")


def write_records(lines: Iterable[str], out: Path, *, overwrite: bool = False) -> int:
    """Write lines to a file, which is there completely or not at all, and return how many there were.

    Args:
        lines: the lines, from `export_records`.
        out: path of the file.
        overwrite: whether a file that is there already may be replaced.

    Raises:
        DatabaseError: if the file is there already or cannot be written, or if there are no lines.
    """
    if not overwrite and (out.exists() or out.is_symlink()):
        raise DatabaseError(f"{out} is there already: add --force to write over it, or name another file")
    if out.is_dir():
        raise DatabaseError(f"{out} is a folder: name a file in it")
    if not out.parent.is_dir():
        raise DatabaseError(f"{out}: the folder {out.parent} does not exist; make it first")
    refuse_to_replace(out, str(out))
    # If the path is a link, the file that it points to is replaced, not the link.
    place = out.resolve()
    partial = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            count = _write_lines(lines, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    except OSError as error:
        raise DatabaseError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def print_records(lines: Iterable[str]) -> int:
    """Write lines to the standard output, and return how many there were."""
    return _write_lines(lines, sys.stdout)


def _write_lines(lines: Iterable[str], file: TextIO) -> int:
    count = 0
    for line in lines:
        file.write(f"{line}\n")
        count += 1
    if not count:
        raise DatabaseError("there is nothing to export: no run has ended")
    return count


def check_files(paths: Sequence[Path]) -> list[Checked]:
    """Read whole files and check every line; nothing is stored.

    Raises:
        DatabaseError: if a file cannot be read, has a line that is no record, or is empty; the message names file and
            line.
    """
    checked = []
    for path in paths:
        digest = hashlib.sha256()
        count = sum(1 for _ in read_file(path, digest))
        if not count:
            raise DatabaseError(f"{shown(path)} holds no records: export some with npas-bench export --out FILE")
        checked.append(Checked(path, count, digest.hexdigest()))
    return checked


def read_file(path: Path, digest: Any) -> Iterator[Located]:
    """Yield the records of a file, one after the other.

    Args:
        path: path of the file.
        digest: a hash object, which is updated with all bytes of the file.

    Raises:
        DatabaseError: at a line that is no record.
    """
    moment = now()
    with _opened(path) as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            digest.update(line)
            if number == 1:
                if line.startswith(_GZIP):
                    raise DatabaseError(f"{shown(path)} is compressed: unpack it first, with gunzip")
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if len(line) > _LONGEST_LINE:
                raise _wrong(path, number, f"is longer than {_LONGEST_LINE // 2**20} MiB")
            if line.strip():
                try:
                    record = read_record(line, moment)
                except BadRecord as error:
                    raise _wrong(path, number, str(error)) from None
                wrong = contradiction(record)
                if wrong is not None:
                    raise _wrong(path, number, wrong)
                yield Located(path, number, record, len(line))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Files are read twice, which a pipe does not allow.
        if path.exists() and not path.is_file():
            raise DatabaseError(
                f"{shown(path)} is {'a folder' if path.is_dir() else 'no file'}: name a file of JSON lines"
            )
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DatabaseError(f"{shown(path)} does not exist") from None
    except (OSError, ValueError) as error:
        raise DatabaseError(f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _wrong(path: Path, line: int, what: str) -> DatabaseError:
    return DatabaseError(f"{shown(path)}, line {line}, is no record of a run: {printable(what)}")


def shown(path: Path) -> str:
    """The name of a file as messages print it."""
    return printable(str(path))
