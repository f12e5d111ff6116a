"""SQLAlchemy's engines for results databases, and their errors as a user can read them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DatabaseError as SqlDatabaseError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from npas_bench.database.left_logs import advice_about_logs
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from npas_bench.database.location import Location

_BUSY_SECONDS = 60
_CONNECT_SECONDS = 10


def make_engine(
    location: Location,
    mode: Literal["ro", "rw", "rwc"] = "rw",
    *,
    immutable: bool = False,
    patience: float | None = None,
) -> Engine:
    """An engine for a database; nothing is opened yet.

    Args:
        location: the place of the database.
        mode: whether it is read (`ro`), changed (`rw`), or a file that is made if it does not exist (`rwc`).
        immutable: whether it is certain that nobody writes to the file.
        patience: seconds to wait for a file that is locked, or a server that does not answer.

    Raises:
        DatabaseError: if the driver for a server is not installed.
    """
    if location.path is None:
        return _server_engine(location, patience, read_only=mode == "ro")
    path, timeout = location.path, _BUSY_SECONDS if patience is None else patience
    flags = f"mode={mode}{'&immutable=1' if immutable else ''}"

    def connect() -> sqlite3.Connection:
        # In a URI, what a name may contain cannot be taken for options.
        uri = f"file:{quote(os.fsencode(path))}?{flags}"
        return sqlite3.connect(uri, timeout=timeout, uri=True, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _server_engine(location: Location, patience: float | None, *, read_only: bool) -> Engine:
    try:
        return create_engine(
            location.url,
            pool_pre_ping=True,
            # A server that vanishes without closing its connections is noticed within a minute and a half.
            connect_args={
                "connect_timeout": _CONNECT_SECONDS if patience is None else max(1, round(patience)),
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 90_000,
            },
            execution_options={"postgresql_readonly": read_only},
        )
    except ModuleNotFoundError:
        raise DatabaseError(
            f"database {location}: PostgreSQL needs psycopg; install it with pip install 'npas-bench[postgres]'"
        ) from None


@contextmanager
def outside_transactions(engine: Engine) -> Iterator[Connection]:
    """A connection each of whose statements takes effect at once."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def explained(location: Location, engine: Engine) -> Iterator[None]:
    """Turn the errors of a database that is being opened into one that a user can read.

    Raises:
        DatabaseError: instead of the database's own error.
    """
    try:
        yield
    except DatabaseError:
        engine.dispose()
        raise
    # SQLite's own message about a damaged schema may be no text.
    except (SQLAlchemyError, OSError, UnicodeDecodeError) as error:
        engine.dispose()
        cause = first_line(error)
        what = "cannot be reached" if location.path is None else "cannot be opened"
        if isinstance(error, SqlDatabaseError) and "not a database" in cause:
            what = "is no SQLite database"
        advice = advice_about_logs(location) if _is_malformed(error) else ""
        raise DatabaseError(
            f"database {location} {what}: {cause}. {advice or 'Name another with --db or NPAS_BENCH_DB'}"
        ) from error


def _is_malformed(error: Exception) -> bool:
    """Tell whether SQLite finds that a file's content is wrong, rather than that it cannot do something."""
    return type(getattr(error, "orig", None)) is sqlite3.DatabaseError


def first_line(error: Exception) -> str:
    """The first line of a database's own words about an error."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
