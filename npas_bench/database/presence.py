"""A check that a database which was written is still the file at its place when the work is done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, cast

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from npas_bench.database.opening import free_name, open_for_reading
from npas_bench.database.schema import RunRow
from npas_bench.database.states import ENDED
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from npas_bench.database.opening import Database


def check_presence(database: Database) -> None:
    """Make sure that whoever opens the database's place finds the results that were written.

    A file that is deleted, replaced or cut short while it is open goes on to be written without any error.

    Args:
        database: open for writing; what it holds is saved beside its place if it is not there any more.

    Raises:
        DatabaseError: if results are missing.
    """
    path = database.location.path
    if path is None:
        return
    held = _ended(database)
    try:
        found = open_for_reading(database.location)
        if found is None:
            what = "is not there any more"
        else:
            with closing(found):
                there = _ended(found)
            if found.file == database.file and there >= held:
                return
            # The log of the old file, which still lies there, is taken for the new file's until it is closed.
            what = "was replaced by another" if found.file != database.file else f"holds {there:,} of them"
    except (DatabaseError, SQLAlchemyError) as error:
        what = f"cannot be read any more ({str(error).splitlines()[0]})"
    raise DatabaseError(
        f"database {database.location} was deleted, replaced or damaged while it was written: of the {held:,} ended "
        f"runs that this command knew, the file {what}. {_saved(database, path)}"
    )


def _ended(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).where(RunRow.state.in_(ENDED))) or 0


def _saved(database: Database, path: Path) -> str:
    """Write what the open file holds beside its place, and say so."""
    copy = free_name(path, "saved")
    source = database.engine.raw_connection()
    try:
        with closing(sqlite3.connect(copy)) as target:
            cast("sqlite3.Connection", source.driver_connection).backup(target)
    except (sqlite3.Error, OSError) as error:
        copy.unlink(missing_ok=True)
        return f"They could not be saved: {error}"
    finally:
        source.close()
    return f"They are saved in {database.location.shown(copy)}"
