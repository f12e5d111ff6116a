"""Opening a database for the length of a block, in whichever way the block needs it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from npas_bench.database.damage import reaching
from npas_bench.database.opening import open_beside, open_for_import, open_for_reading, open_for_writing
from npas_bench.database.presence import find_loss
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npas_bench.database.location import Location
    from npas_bench.database.opening import Database
    from npas_bench.database.papers import PaperList

log = logging.getLogger(__name__)


class Access(Enum):
    """What a block does with a database.

    Attributes:
        READING: It reads, and disturbs no driver.
        WRITING: It runs cells as a driver. A file takes one driver at a time. The database is made if necessary.
        BESIDE: It changes a little, whether or not a driver is at work.
        IMPORTING: It adds runs, as a driver or beside one. The database is made if necessary.
    """

    READING = auto()
    WRITING = auto()
    BESIDE = auto()
    IMPORTING = auto()


@contextmanager
def opened(
    location: Location,
    access: Access = Access.READING,
    *,
    papers: PaperList | None = None,
    immutable: bool = False,
) -> Iterator[Database]:
    """An open database, which is closed at the end of the block.

    If the block fails or is stopped and the results that it wrote are not there any more, a warning says so.

    Args:
        location: place of the database.
        access: what the block does with it.
        papers: the papers' numbers that a database that is written is to hold; None leaves those that it holds.
        immutable: whether it is certain that nobody writes to a file that is read.

    Raises:
        DatabaseError: if the database does not exist, cannot be opened as the block needs it, fails within it, or is
            not there any more when the block has written to it.
    """
    with opened_if_there(location, access, papers=papers, immutable=immutable) as database:
        if database is None:
            raise DatabaseError(f"database {location} does not exist: run something first, or name another with --db")
        yield database


@contextmanager
def opened_if_there(
    location: Location,
    access: Access = Access.READING,
    *,
    papers: PaperList | None = None,
    immutable: bool = False,
) -> Iterator[Database | None]:
    """The same as `opened`, but None takes the place of a database that does not exist."""
    with reaching(location):
        database = _open(location, access, papers, immutable=immutable)
        written = database if access in (Access.WRITING, Access.IMPORTING) else None
        try:
            yield database
        except BaseException as error:
            _miss(written, error)
            raise
        else:
            _miss(written)
        finally:
            if database is not None:
                database.close()


def _miss(database: Database | None, failure: BaseException | None = None) -> None:
    """Tell if what was written to a database is not there any more.

    Args:
        database: open; None if nothing was written.
        failure: what ended the work early, which is to be raised again; None if the work came to its end.

    Raises:
        DatabaseError: if results are missing, unless the work failed for a reason of its own.
    """
    loss = None if database is None else find_loss(database)
    if loss is None:
        return
    if failure is None or isinstance(failure, SQLAlchemyError):
        raise DatabaseError(loss) from failure
    log.warning("%s", loss)


def _open(location: Location, access: Access, papers: PaperList | None, *, immutable: bool) -> Database | None:
    match access:
        case Access.READING:
            return open_for_reading(location, immutable=immutable)
        case Access.WRITING:
            return open_for_writing(location, papers)
        case Access.BESIDE:
            return open_beside(location)
        case Access.IMPORTING:
            return open_for_import(location, papers)
