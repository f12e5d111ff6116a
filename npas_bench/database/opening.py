"""Opening a results database: which one, of which schema, for reading or for writing."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError as SqlDatabaseError
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from npas_bench.database.location import Location as Location
from npas_bench.database.location import locate as locate
from npas_bench.database.papers import fill_papers, papers_current
from npas_bench.database.schema import REVISION, REVISIONS, VERSION_TABLE
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

    from npas_bench.database.papers import PaperList

_BUSY_SECONDS = 60
_CONNECT_SECONDS = 10
# The key of the lock under which schemas change: any number, the same in every version ("npas" in ASCII).
_SERVER_LOCK = 0x6E706173


class Database:
    """An open results database.

    Attributes:
        location: place of the database.
        engine: SQLAlchemy's engine.
        session: factory of sessions on the engine.
    """

    def __init__(self, location: Location, engine: Engine, lock: FileLock | None = None) -> None:
        self.location = location
        self.engine = engine
        self.session = sessionmaker(engine, expire_on_commit=False)
        # The lock by which a driver of a file is the only one; None for readers and servers.
        self._lock = lock

    @property
    def alone(self) -> bool:
        """Tell whether no other driver can be at work on the database."""
        return self._lock is not None

    def close(self) -> None:
        """Close every connection and let the next driver in.

        An SQLite file that was written is left as one file, unless a reader holds on to it.
        """
        if self._lock is not None:
            self._leave_write_ahead_log()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def _leave_write_ahead_log(self) -> None:
        # While somebody reads the file, its log has to stay; it is complete, and the next driver merges it.
        with suppress(OperationalError), _outside_transactions(self.engine) as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=200")
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")


def open_for_writing(location: Location, papers: PaperList | None = None) -> Database:
    """Open a database for a driver, making it with the newest schema if it does not exist.

    A file takes one driver at a time, a server any number.

    Args:
        location: the database's place.
        papers: the papers' numbers that the database shall hold; left out, those that it holds stay.

    Raises:
        DatabaseError: if it cannot be reached, holds no results, has another schema than this code's, or is a file
            that has another driver at work on it.
    """
    if location.path is None:
        return _open_server(location, papers)
    if location.path.exists() and location.path.stat().st_size:
        # A file that is no database shall get no lock file beside it.
        reader = open_for_reading(location)
        if reader is not None:
            reader.close()
    lock = _lock(location, location.path)
    try:
        if not location.path.exists() or location.path.stat().st_size == 0:
            _make_file(location, location.path, papers)
        engine = _engine(location)
        with _explained(location, engine):
            with engine.connect() as connection:
                _check(location, _revision(connection))
            _renew_papers(engine, papers)
            with _outside_transactions(engine) as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except BaseException:
        lock.release()
        raise
    return Database(location, engine, lock)


def _open_server(location: Location, papers: PaperList | None) -> Database:
    engine = _engine(location)
    with _explained(location, engine):
        with engine.connect() as connection:
            empty = _revision(connection) is None and not inspect(connection).get_table_names()
        if empty:
            _migrate(engine, papers)
        with engine.connect() as connection:
            _check(location, _revision(connection))
        _renew_papers(engine, papers)
    return Database(location, engine)


def open_beside(location: Location) -> Database | None:
    """Open a database to change a little in it, whether or not a driver is at work on it.

    Raises:
        DatabaseError: as `open_for_writing` does, but for the driver.
    """
    if location.path is not None and not location.path.exists():
        return None
    engine = _engine(location)
    with _explained(location, engine), engine.connect() as connection:
        _check(location, _revision(connection))
    return Database(location, engine)


def open_for_import(location: Location, papers: PaperList | None = None) -> Database:
    """Open a database to import runs into it: as a driver does, or beside the driver that is at work on the file.

    Raises:
        DatabaseError: as `open_for_writing` does, but for the driver.
    """
    try:
        return open_for_writing(location, papers)
    except DatabaseTaken:
        beside = open_beside(location)
        if beside is None:
            raise
        return beside


def upgrade(location: Location, papers: PaperList | None = None) -> tuple[str, str]:
    """Bring a database to the newest schema, and return the revisions before and after.

    A file is changed in a copy that takes its place when it is whole, and kept as it was beside it.

    Raises:
        DatabaseError: if there is none, it cannot be reached, holds no results or newer ones, or has a driver at work
            on it.
    """
    if location.path is None:
        engine = _engine(location)
        with _explained(location, engine):
            with engine.connect() as connection:
                before = _known_revision(location, _revision(connection))
            if before != REVISION:
                _migrate(engine, papers)
        engine.dispose()
        return before, REVISION
    if not location.path.exists():
        raise DatabaseError(f"database {location} does not exist")
    lock = _lock(location, location.path)
    try:
        engine = _engine(location, read_only=True)
        with _explained(location, engine), engine.connect() as connection:
            before = _known_revision(location, _revision(connection))
        engine.dispose()
        if before != REVISION:
            _upgrade_file(location, location.path, before, papers)
    finally:
        lock.release()
    return before, REVISION


def _upgrade_file(location: Location, path: Path, before: str, papers: PaperList | None) -> None:
    kept, fresh = (path.with_name(f"{path.name}.{suffix}") for suffix in (before, "new"))
    try:
        with closing(sqlite3.connect(path)) as source:
            for copy in (kept, fresh):
                copy.unlink(missing_ok=True)
                with closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            # A log that is left behind would be taken for the new file's.
            source.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.Error, OSError) as error:
        raise DatabaseError(f"database {location} cannot be copied for the upgrade: {error}") from None
    engine = _engine(Location(location.url.set(database=str(fresh)), fresh))
    with _explained(location, engine):
        _migrate(engine, papers)
    engine.dispose()
    fresh.replace(path)


class DatabaseTaken(DatabaseError):
    """A file that has a driver at work on it."""


def _taken(location: Location) -> DatabaseTaken:
    return DatabaseTaken(
        f"database {location} has another npas-bench run at work on it, and a file takes one at a time: wait for it, "
        "name another with --db, or use a PostgreSQL server for several"
    )


def _lock(location: Location, path: Path) -> FileLock:
    if not path.parent.is_dir():
        raise DatabaseError(f"database {location}: the folder {path.parent} does not exist; make it first")
    # The real path is locked, so that two names for one file are one database.
    lock = FileLock(f"{path.resolve()}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _taken(location) from None
    except OSError as error:
        raise DatabaseError(f"database {location} cannot be written: {error}") from None
    return lock


def _make_file(location: Location, path: Path, papers: PaperList | None) -> None:
    """Make an SQLite file beside its place and move it there, so that a crash leaves no file or a complete one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    engine = _engine(Location(location.url.set(database=str(fresh)), fresh))
    with _explained(location, engine):
        _migrate(engine, papers)
    engine.dispose()
    fresh.replace(path)


@contextmanager
def _outside_transactions(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def open_for_reading(location: Location, *, immutable: bool = False, patience: float | None = None) -> Database | None:
    """Open a database to read it; None if there is no such file.

    Args:
        location: place of the database.
        immutable: whether it is certain that nobody writes to the file; it may then lie on read-only media.
        patience: seconds to wait for a file that is locked, or a server that does not answer.

    Raises:
        DatabaseError: as `open_for_writing` does.
    """
    if location.path is not None and not location.path.exists():
        return None
    engine = _engine(location, read_only=True, immutable=immutable, patience=patience)
    with _explained(location, engine), engine.connect() as connection:
        _check(location, _revision(connection))
    return Database(location, engine)


def _engine(
    location: Location, *, read_only: bool = False, immutable: bool = False, patience: float | None = None
) -> Engine:
    if location.path is None:
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
    url: URL | str = location.url
    if read_only:
        flags = "mode=ro&uri=true" + ("&immutable=1" if immutable else "")
        url = f"sqlite:///file:{quote(str(location.path.resolve()))}?{flags}"
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS if patience is None else patience})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


@contextmanager
def _explained(location: Location, engine: Engine) -> Iterator[None]:
    try:
        yield
    except DatabaseError:
        engine.dispose()
        raise
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        cause = _first_line(error)
        what = "cannot be reached" if location.path is None else "cannot be opened"
        if isinstance(error, SqlDatabaseError) and "not a database" in cause:
            what = "is no SQLite database"
        raise DatabaseError(f"database {location} {what}: {cause}. Name another with --db or NPAS_BENCH_DB") from error


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Turn the errors of a database that fails in the middle of the work into one that a user can read.

    Raises:
        DatabaseError: instead of the database's own error.
    """
    try:
        yield
    except (OperationalError, SqlDatabaseError) as error:
        raise DatabaseError(
            f"database {location} failed: {_first_line(error)}. What was finished is stored; the same command goes on"
        ) from error


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return revision


def _check(location: Location, revision: str | None) -> None:
    known = _known_revision(location, revision)
    if known != REVISION:
        raise DatabaseError(
            f"database {location} has schema {known}, and this npas-bench uses {REVISION}: bring it up to date with "
            f"npas-bench db upgrade --db {shlex.quote(str(location))}"
        )


def _known_revision(location: Location, revision: str | None) -> str:
    """The revision, provided that this code can use or upgrade it."""
    if revision is None:
        raise DatabaseError(f"database {location} holds no npas-bench results: name another with --db or NPAS_BENCH_DB")
    if revision not in REVISIONS:
        raise DatabaseError(
            f"database {location} has schema {revision}, this npas-bench knows schemas up to {REVISION}: "
            "it was written by a newer version. Update with pip install --upgrade npas-bench, or name another with --db"
        )
    return revision


def _renew_papers(engine: Engine, papers: PaperList | None) -> None:
    """Bring the papers' numbers up to this package's, where another version filled them in."""
    if papers is None:
        return
    with engine.connect() as connection:
        current = papers_current(connection, papers)
    if not current:
        with engine.begin() as connection:
            _take_turns(connection)
            fill_papers(connection, papers)


def _take_turns(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Several drivers may find the same work to do; one does it, and the others find it done.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SERVER_LOCK})


def _migrate(engine: Engine, papers: PaperList | None) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "npas_bench.database:migrations")
    with engine.begin() as connection:
        _take_turns(connection)
        if engine.dialect.name == "sqlite":
            # A table is altered by dropping and remaking it, while other tables refer to it.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if papers is not None:
            fill_papers(connection, papers)
