"""Reading every column of a database, to find what no reader can make sense of.

SQLite keeps whatever bytes a damaged file has: texts that are no UTF-8, JSON that ends too early, words for numbers.
A server takes none of that, but it does not know what JSON of a run's columns has to hold.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import JSON, Boolean, DateTime, Float, Integer, LargeBinary, String, Text, cast, func, or_, select

from npas_bench.database.exchange.fields import Name, Table
from npas_bench.database.exchange.parts import (
    AttemptRecord,
    CostRecord,
    EpochRecord,
    LedgerRecord,
    PluginRecord,
    SharingRecord,
)
from npas_bench.database.schema import Base, RunStateText, UtcTime
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Column, ColumnElement, Connection
    from sqlalchemy import Table as SqlTable

    from npas_bench.database.opening import Database

# The largest finite number that a column of numbers takes.
LARGEST = math.nextafter(math.inf, 0)
# What each column of JSON holds, as exchange files have it.
_JSON: dict[str, Any] = {
    "cells.options": Table,
    "cells.recipe": Table,
    "runs.versions": dict[Name, Name],
    "runs.plugins": list[PluginRecord],
    "runs.attempts": list[AttemptRecord],
    "runs.ledger": LedgerRecord,
    "runs.sharing": list[SharingRecord],
    "runs.structure": Table,
    "runs.history": list[EpochRecord],
    "runs.cost": CostRecord,
    "subjects.detail": Table,
    "papers.options_here": Table,
}
# Values that an import would refuse today, and that readers of older databases do with.
_ONLY_ODD = {
    "greater_than_equal",
    "less_than_equal",
    "string_too_long",
    "string_too_short",
    "string_pattern_mismatch",
    "too_long",
    "value_error",
}
# JSON in which a number may be infinite or none; most is not, and need not be read a second time.
_PERHAPS_INFINITE = re.compile(rb"Infinity|NaN|[eE]\+?\d{3}|\d{309}")
# The ways in which SQLite keeps values of each type of column.
_KEPT_AS = ((Boolean, ("integer",)), (Integer, ("integer",)), (Float, ("real", "integer")))


class Unreadable(NamedTuple):
    """A column with values that cannot be read, or that are no finite numbers.

    Attributes:
        column: its name, with that of its table.
        values: number of such values.
        example: the first of them, by the key of its row, and what is wrong with it.
    """

    column: str
    values: int
    example: str


def unreadable_columns(database: Database) -> Iterator[Unreadable]:
    """The columns with values that cannot be read, table by table.

    Args:
        database: open, for reading at least.
    """
    with database.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            wrong = list(_wrong_types(connection, table)) if connection.dialect.name == "sqlite" else []
            yield from wrong or _wrong_values(connection, table)


def infinite_columns(database: Database) -> Iterator[Unreadable]:
    """The columns of numbers that are not finite, besides those of what runs measured; SQLite has no NaN.

    Args:
        database: open, for reading at least.
    """
    numbers = [
        column
        for table in Base.metadata.sorted_tables
        if table.name not in ("metrics", "evaluations")
        for column in table.columns
        if isinstance(column.type, Float)
    ]
    with database.engine.connect() as connection:
        for column in numbers:
            # PostgreSQL sorts NaN behind all numbers.
            query = select(func.count(), func.min(_key(column.table))).where(~column.between(-LARGEST, LARGEST))
            count, first = connection.execute(query).one()
            if count:
                yield Unreadable(f"{column.table.name}.{column.name}", count, _shown(first))


def _wrong_types(connection: Connection, table: SqlTable) -> Iterator[Unreadable]:
    """The columns of a table of SQLite with values of another type than the column's."""
    for column in table.columns:
        allowed = next((names for kind, names in _KEPT_AS if isinstance(column.type, kind)), ("text",))
        # SQLite has no NaN, and keeps NULL in its place.
        odd: ColumnElement[bool] = func.typeof(column).not_in([*allowed, "null"])
        if isinstance(column.type, Boolean):
            odd = or_(odd, cast(column, Integer).not_in((0, 1)))
        count, first = connection.execute(select(func.count(), func.min(_key(table))).where(odd)).one()
        if count:
            yield Unreadable(f"{table.name}.{column.name}", count, f"{_shown(first)} is of another type")


def _wrong_values(connection: Connection, table: SqlTable) -> Iterator[Unreadable]:
    """The columns of a table with texts, times, states or JSON that cannot be read."""
    raw = LargeBinary if connection.dialect.name == "sqlite" else Text
    readers = {column: reader for column in table.columns if (reader := _reader(column, raw is Text)) is not None}
    counts = dict.fromkeys(readers, 0)
    examples: dict[Column[Any], str] = {}
    query = select(cast(_key(table), raw), *(cast(column, raw) for column in readers))
    # Not all rows at once: those of a hundred thousand runs are gigabytes.
    for key, *values in connection.execution_options(yield_per=500).execute(query):
        for (column, read), value in zip(readers.items(), values, strict=True):
            if value is None:
                continue
            try:
                read(value)
            except ValueError as error:
                counts[column] += 1
                examples.setdefault(column, f"{_shown(key)}: {_why(error)}")
    for column, count in counts.items():
        if count:
            yield Unreadable(f"{table.name}.{column.name}", count, examples[column])


def _reader(column: Column[Any], on_server: bool) -> Callable[[Any], object] | None:
    """What reads the raw value of a column, and raises a ValueError; None where nothing can be wrong."""
    if isinstance(column.type, JSON):
        return _json_reader(f"{column.table.name}.{column.name}", bool(column.nullable))
    if on_server:
        return None
    if isinstance(column.type, UtcTime | DateTime):
        return _read_time
    if isinstance(column.type, RunStateText):
        return _read_state
    return bytes.decode if isinstance(column.type, String | Text) else None


@cache
def _json_reader(name: str, nullable: bool) -> Callable[[Any], object]:
    kind = _JSON[name]
    adapter: TypeAdapter[Any] = TypeAdapter(kind | None if nullable else kind)

    def read(value: Any) -> None:
        if _PERHAPS_INFINITE.search(value if isinstance(value, bytes) else value.encode()):
            _refuse_infinite(value)
        try:
            adapter.validate_json(value)
        except ValidationError as error:
            if any(one["type"] not in _ONLY_ODD for one in error.errors(include_url=False, include_context=False)):
                raise

    return read


def _refuse_infinite(value: Any) -> None:
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        # Whatever is wrong with it, it is told with the place.
        return
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise ValueError("a number in it is not finite") from None


def _read_time(value: bytes) -> datetime:
    return datetime.fromisoformat(value.decode())


def _read_state(value: bytes) -> RunState:
    return RunState(value.decode())


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = next(one for one in error.errors(include_url=False) if one["type"] not in _ONLY_ODD)
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _key(table: SqlTable) -> Column[Any]:
    """The first column of a table's key."""
    column: Column[Any] = next(iter(table.primary_key.columns))
    return column


def _shown(key: object) -> str:
    said = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
    return f"row {said[:32]}"
