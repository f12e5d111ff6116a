"""Where a results database is: a file or a server."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from typing_extensions import override

from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DEFAULT = "runs.db"
_PLAIN_OPTIONS = ("host", "port", "dbname", "sslmode", "connect_timeout")
_FORMS = "use a file's path, sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"


@dataclass(frozen=True)
class Location:
    """The place of a database.

    Attributes:
        url: URL that SQLAlchemy opens it by.
        path: path of an SQLite file; None for a server.
    """

    url: URL
    path: Path | None

    @override
    def __str__(self) -> str:
        if self.path:
            return str(self.path)
        # A password may also be among the options.
        plain = {name: value for name, value in self.url.query.items() if name in _PLAIN_OPTIONS}
        return self.url.set(query=plain).render_as_string(hide_password=True)

    @property
    def name(self) -> str:
        """A name for its files in a folder that it shares with other databases."""
        if self.path is None:
            return self.work_folder.name
        return f"{self.path.name}-{hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:12]}.work"

    @property
    def work_folder(self) -> Path:
        """The folder of its runs' checkpoints: beside an SQLite file, in the working directory for a server."""
        if self.path is not None:
            return self.path.with_name(f"{self.path.name}.work")
        place = f"{self.url.host}:{self.url.port}/{self.url.database}?{sorted(self.url.query.items())}"
        return Path(f"npas-bench-{hashlib.sha256(place.encode()).hexdigest()[:12]}.work")


def locate(wanted: str | None) -> Location:
    """The database that a user means: `wanted`, else `NPAS_BENCH_DB`, else `runs.db` in the working directory.

    Raises:
        DatabaseError: if it is neither a path nor a URL that this installation can open.
    """
    written = wanted or os.environ.get("NPAS_BENCH_DB") or DEFAULT
    if "://" not in written:
        return _file(written)
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):
        # The original message could quote the password.
        raise DatabaseError(f"a database's URL cannot be read: {_FORMS}") from None
    if url.drivername == "sqlite" and not url.query:
        return _file(url.database or "")
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise DatabaseError(f"database '{url.set(query={}).render_as_string()}' is not supported: {_FORMS}")
    return Location(url.set(drivername="postgresql+psycopg"), None)


def _file(written: str) -> Location:
    try:
        path = Path(written).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatabaseError(f"database '{written}' cannot be a file: {error}") from None
    if not path.name or written == ":memory:":
        raise DatabaseError(f"database '{written}' names no file: {_FORMS}")
    if path.is_dir():
        raise DatabaseError(f"database '{written}' is a folder: name a file in it with --db or NPAS_BENCH_DB")
    return Location(make_url("sqlite://").set(database=str(path)), path)
