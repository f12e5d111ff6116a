"""What failed while a database was in use: the database itself, which may be damaged, or something else."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from npas_bench.database.check import find_damage
from npas_bench.database.engines import first_line
from npas_bench.database.opening import open_for_reading
from npas_bench.errors import DatabaseError, NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npas_bench.database.location import Location

# What readers meet in values that no writer stored: JSON that is none, fields that are missing, words for numbers.
_OF_READERS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Turn the errors of a database that fails in the middle of the work into one that a user can read.

    An error of another kind is passed on, unless the database is found to be damaged.

    Raises:
        DatabaseError: instead of the database's own error, or of an error that comes from its damage.
    """
    try:
        yield
    except NpasBenchError:
        raise
    except SQLAlchemyError as error:
        raise DatabaseError(
            _damage(location)
            or f"database {location} failed: {first_line(error)}. What was finished is stored; the same command goes on"
        ) from error
    except _OF_READERS as error:
        damage = _damage(location)
        if damage is None:
            raise
        raise DatabaseError(damage) from error


def _damage(location: Location) -> str | None:
    """What is damaged about a file, as a message; None if nothing is found, and for a server."""
    if location.path is None:
        return None
    with suppress(SQLAlchemyError):
        reader = open_for_reading(location)
        if reader is None:
            return None
        try:
            for fault in find_damage(reader):
                return f"database {location} is damaged: {fault.what}. {fault.remedy}"
        finally:
            reader.close()
    return None
