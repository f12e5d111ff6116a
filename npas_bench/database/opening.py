"""Opening a results database: which one, of which schema, for reading or for writing."""

from __future__ import annotations

import os
import secrets
import shlex
import sqlite3
from contextlib import closing, suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout
from sqlalchemy import inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from npas_bench.database.engines import explained, make_engine, outside_transactions
from npas_bench.database.left_logs import refuse_left_logs
from npas_bench.database.location import Location as Location
from npas_bench.database.location import locate as locate
from npas_bench.database.location import location_of
from npas_bench.database.papers import fill_papers, papers_current
from npas_bench.database.plain_files import refuse_second_name
from npas_bench.database.schema import REVISION, REVISIONS, VERSION_TABLE
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from npas_bench.database.papers import PaperList
    from npas_bench.database.states import RunState

# The key of the lock under which schemas change: any number, the same in every version ("npas" in ASCII).
_SERVER_LOCK = 0x6E706173


class Database:
    """An open results database.

    Attributes:
        location: place of the database.
        engine: SQLAlchemy's engine.
        session: factory of sessions on the engine.
        file: device and number of an SQLite file, which tell it from one that takes its place; None for a server.
        ended: the runs that were brought to an end through this object, by uid, with the states that they ended in.
    """

    def __init__(self, location: Location, engine: Engine, lock: FileLock | None = None) -> None:
        self.location = location
        self.engine = engine
        self.session = sessionmaker(engine, expire_on_commit=False)
        self.file = file_number(location)
        self.ended: dict[str, RunState] = {}
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
        try:
            if self._lock is not None:
                self._leave_write_ahead_log()
            self.engine.dispose()
        finally:
            if self._lock is not None:
                self._lock.release()

    def _leave_write_ahead_log(self) -> None:
        # While somebody reads the file, its log has to stay; it is complete, and the next driver merges it.
        # Of a file that was damaged or replaced, whoever checks its presence tells.
        with suppress(SQLAlchemyError), outside_transactions(self.engine) as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=200")
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")


def file_number(location: Location) -> tuple[int, int] | None:
    """Device and number of the file at an SQLite database's place; None for a server and where there is none."""
    if location.path is None:
        return None
    with suppress(OSError):
        state = location.path.stat()
        return state.st_dev, state.st_ino
    return None


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
    if location.there():
        # A file that is no database, an empty one included, shall get no lock file beside it.
        reader = open_for_reading(location)
        if reader is not None:
            reader.close()
    lock = _lock(location, location.path)
    try:
        if not location.there():
            refuse_left_logs(location, location.path)
            _make_file(location, location.path, papers)
        engine = make_engine(location)
        with explained(location, engine):
            with engine.connect() as connection:
                _check(location, _revision(connection))
            _renew_papers(engine, papers)
            with outside_transactions(engine) as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except BaseException:
        lock.release()
        raise
    return Database(location, engine, lock)


def _open_server(location: Location, papers: PaperList | None) -> Database:
    engine = make_engine(location)
    with explained(location, engine):
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
    if location.path is not None:
        if not location.there():
            return None
        refuse_second_name(location.path, str(location))
    engine = make_engine(location)
    with explained(location, engine), engine.connect() as connection:
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


class Upgraded(NamedTuple):
    """What an upgrade did.

    Attributes:
        before: revision of the schema before it.
        after: revision of the schema after it.
        kept: the copy of a file as it was; None for a server and where there was nothing to do.
    """

    before: str
    after: str
    kept: Path | None = None


def upgrade(location: Location, papers: PaperList | None = None) -> Upgraded:
    """Bring a database to the newest schema.

    A file is changed in a copy that takes its place when it is whole, and kept as it was beside it.

    Raises:
        DatabaseError: if there is none, it cannot be reached, holds no results or newer ones, or has a driver at work
            on it.
    """
    if location.path is None:
        engine = make_engine(location)
        with explained(location, engine):
            with engine.connect() as connection:
                before = _known_revision(location, _revision(connection))
            if before != REVISION:
                _migrate(engine, papers)
        engine.dispose()
        return Upgraded(before, REVISION)
    if not location.there():
        raise DatabaseError(f"database {location} does not exist")
    lock = _lock(location, location.path)
    try:
        engine = make_engine(location, "ro")
        with explained(location, engine), engine.connect() as connection:
            before = _known_revision(location, _revision(connection))
        engine.dispose()
        kept = _upgrade_file(location, location.path, before, papers) if before != REVISION else None
    finally:
        lock.release()
    return Upgraded(before, REVISION, kept)


def _upgrade_file(location: Location, path: Path, before: str, papers: PaperList | None) -> Path:
    kept, fresh = free_name(path, before), _beside(path)
    try:
        with closing(sqlite3.connect(path)) as source:
            for copy in (kept, fresh):
                with closing(sqlite3.connect(copy)) as target:
                    source.backup(target)
            # A log that is left behind would be taken for the new file's.
            source.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.Error, OSError) as error:
        raise DatabaseError(f"database {location} cannot be copied for the upgrade: {error}") from None
    engine = make_engine(location_of(fresh), "rwc")
    try:
        with explained(location, engine):
            _migrate(engine, papers)
        engine.dispose()
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return kept


def free_name(path: Path, suffix: str) -> Path:
    """A name for a copy beside a file, which nothing has yet."""
    names = (path.with_name(f"{path.name}.{suffix}{f'-{number}' if number else ''}") for number in count())
    return next(name for name in names if not os.path.lexists(name))


def _beside(path: Path) -> Path:
    """A name, beside a file, for its successor while that is made: nobody else has one like it."""
    return path.with_name(f"{path.name[:200]}.{secrets.token_hex(4)}.new")


class DatabaseTaken(DatabaseError):
    """A file that has a driver at work on it."""


def _taken(location: Location) -> DatabaseTaken:
    return DatabaseTaken(
        f"database {location} has another npas-bench run at work on it, and a file takes one at a time: wait for it, "
        "name another with --db, or use a PostgreSQL server for several"
    )


def _lock(location: Location, path: Path) -> FileLock:
    if not path.parent.is_dir():
        raise DatabaseError(
            f"database {location}: the folder {location.shown(path.parent)} does not exist; make it first"
        )
    refuse_second_name(path, str(location))
    # The real path is locked, so that two paths to one file are one database.
    beside = path.with_name(f"{path.name}.lock")
    if os.path.lexists(beside) and (beside.is_symlink() or not beside.is_file() or beside.stat().st_size):
        # The lock would empty the file.
        raise DatabaseError(
            f"database {location} needs the name {beside.name} for its lock, and another file has it: name another "
            "database with --db"
        )
    lock = FileLock(beside, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _taken(location) from None
    except OSError as error:
        raise DatabaseError(f"database {location} cannot be written: {error}") from None
    return lock


def _make_file(location: Location, path: Path, papers: PaperList | None) -> None:
    """Make an SQLite file beside its place and move it there, so that a crash leaves no file or a complete one."""
    fresh = _beside(path)
    engine = make_engine(location_of(fresh), "rwc")
    try:
        with explained(location, engine):
            _migrate(engine, papers)
        engine.dispose()
        fresh.replace(path)
    except OSError as error:
        raise DatabaseError(f"database {location} cannot be made: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)


def open_for_reading(location: Location, *, immutable: bool = False, patience: float | None = None) -> Database | None:
    """Open a database to read it; None if there is no such file.

    Args:
        location: place of the database.
        immutable: whether it is certain that nobody writes to the file; it may then lie on read-only media.
        patience: seconds to wait for a file that is locked, or a server that does not answer.

    Raises:
        DatabaseError: as `open_for_writing` does.
    """
    if location.path is not None and not location.there():
        return None
    engine = make_engine(location, "ro", immutable=immutable, patience=patience)
    with explained(location, engine), engine.connect() as connection:
        _check(location, _revision(connection))
    return Database(location, engine)


def check_results(location: Location) -> None:
    """Make sure that a database holds results, of whichever schema.

    Raises:
        DatabaseError: if it does not, or cannot be reached.
    """
    engine = make_engine(location, "ro")
    with explained(location, engine), engine.connect() as connection:
        _known_revision(location, _revision(connection))
    engine.dispose()


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
