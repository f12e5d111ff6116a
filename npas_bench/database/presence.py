"""A check that a database which was written is still the file at its place when the work is over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, cast

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from npas_bench.database.location import location_of
from npas_bench.database.opening import free_name, open_for_reading
from npas_bench.database.schema import RunRow
from npas_bench.database.states import ENDED
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from npas_bench.database.opening import Database
    from npas_bench.database.states import RunState

# SQLite takes 32,766 variables in a statement, and older builds of it 999.
_CHUNK = 900


def find_loss(database: Database) -> str | None:
    """What was lost of the results that were written; None if whoever opens the database's place finds all of them.

    A file that is deleted, replaced, overwritten or cut short while it is open goes on to be written without any error.

    Args:
        database: open for writing; what it holds is saved beside its place if it is not there any more.
    """
    path = database.location.path
    if path is None:
        return None
    harm = _harm(database)
    if harm is None:
        return None
    return (
        f"database {database.location} was deleted, replaced or damaged while it was written: {harm}. "
        f"{_saved(database, path)}"
    )


def _harm(database: Database) -> str | None:
    held = _held(database)
    knew = f"of the {held:,} ended runs that this command knew, the file"
    try:
        found = open_for_reading(database.location)
        if found is None:
            return f"{knew} is not there any more"
        with closing(found):
            if found.file != database.file:
                return f"{knew} was replaced by another"
            # The log of the old file, which still lies there, is taken for the new file's until it is closed.
            there, kept = _ended(found), _kept(found, database.ended)
    except (DatabaseError, SQLAlchemyError) as error:
        return f"{knew} cannot be read any more ({str(error).splitlines()[0]})"
    if kept < len(database.ended):
        return f"of the {len(database.ended):,} runs that this command brought to an end, the file holds {kept:,}"
    return f"{knew} holds {there:,} of them" if there < held else None


def _held(database: Database) -> int:
    """The number of ended runs that an open database knows, which may be damaged."""
    try:
        return max(_ended(database), len(database.ended))
    except (DatabaseError, SQLAlchemyError):
        return len(database.ended)


def _ended(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).where(RunRow.state.in_(ENDED))) or 0


def _kept(database: Database, ended: Mapping[str, RunState]) -> int:
    """How many of some runs, given by their uids, a database holds in the state that they ended in."""
    uids, kept = list(ended), 0
    with database.session() as session:
        for start in range(0, len(uids), _CHUNK):
            query = select(RunRow.uid, RunRow.state).where(RunRow.uid.in_(uids[start : start + _CHUNK]))
            kept += sum(ended[uid] == state for uid, state in session.execute(query))
    return kept


def _saved(database: Database, path: Path) -> str:
    """Write what the open file holds beside its place, and say so."""
    copy = free_name(path, "saved")
    try:
        _copy(database, copy)
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        copy.unlink(missing_ok=True)
        return f"They could not be saved: {error}"
    place, kept = database.location.shown(copy), _readable(copy, database.ended)
    if kept is None:
        return f"What could be saved is in {place}, which is damaged too"
    if not database.ended or kept == len(database.ended):
        return f"They are saved in {place}"
    if kept:
        return f"{place} holds {kept:,} of them"
    # The file was overwritten in its place, and what took it is no copy of the results.
    copy.unlink()
    return "They could not be saved: what they were written to was overwritten"


def _copy(database: Database, copy: Path) -> None:
    source = database.engine.raw_connection()
    try:
        with closing(sqlite3.connect(copy)) as target:
            cast("sqlite3.Connection", source.driver_connection).backup(target)
            # Whoever reads the copy shall leave no log beside it.
            target.execute("PRAGMA journal_mode=DELETE")
    finally:
        source.close()


def _readable(copy: Path, ended: Mapping[str, RunState]) -> int | None:
    """How many of some runs a copy holds; None if the copy is damaged."""
    try:
        found = open_for_reading(location_of(copy))
        if found is None:
            return None
        with closing(found), found.engine.connect() as connection:
            whole = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() == "ok"
            return _kept(found, ended) if whole else None
    except (DatabaseError, SQLAlchemyError):
        return None
