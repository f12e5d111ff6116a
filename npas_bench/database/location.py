"""Where a results database is: a file or a server."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from typing_extensions import override

from npas_bench.database.companions import HEADER
from npas_bench.database.labels import printable
from npas_bench.database.plain_files import kind_of
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
        url: URL of a server; of a file, a URL that names it to SQLAlchemy.
        path: real path of an SQLite file, the same by whichever name it is reached; None for a server.
        written: the path as the user wrote it, which messages show.
    """

    url: URL
    path: Path | None
    written: str = field(default="", compare=False)

    @override
    def __str__(self) -> str:
        if self.path:
            return self.written or str(self.path)
        # A password may also be among the options.
        plain = {name: value for name, value in self.url.query.items() if name in _PLAIN_OPTIONS}
        return self.url.set(query=plain).render_as_string(hide_password=True)

    @property
    def name(self) -> str:
        """A name for its files in a folder that it shares with other databases."""
        if self.path is None:
            return self.work_folder.name
        return f"{self.path.name}-{hashlib.sha256(str(self.path).encode()).hexdigest()[:12]}.work"

    @property
    def work_folder(self) -> Path:
        """The folder of its runs' checkpoints: beside an SQLite file, in the working directory for a server."""
        if self.path is not None:
            return self.path.with_name(f"{self.path.name}.work")
        place = f"{self.url.host}:{self.url.port}/{self.url.database}?{sorted(self.url.query.items())}"
        return Path(f"npas-bench-{hashlib.sha256(place.encode()).hexdigest()[:12]}.work")

    def shown(self, path: Path) -> Path:
        """The path of a file or folder near the database, written as the user wrote the database's own."""
        written = Path(self.written).expanduser()
        if self.path is None or not self.written or written.is_symlink():
            return path
        return written.parent if path == self.path.parent else written.with_name(path.name)

    def there(self) -> bool:
        """Tell whether an SQLite file exists, which is a regular file then.

        Raises:
            DatabaseError: if something else lies at its place.
        """
        return self.path is not None and _is_there(self.path, str(self))


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
        return _file(_path_in(url))
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise DatabaseError(f"database '{url.set(query={}).render_as_string()}' is not supported: {_FORMS}")
    return Location(url.set(drivername="postgresql+psycopg"), None)


def _path_in(url: URL) -> str:
    """The path in an SQLite URL, which has three slashes before a relative path and four before an absolute one."""
    if any(part is not None for part in (url.host, url.port, url.username, url.password)):
        path = "/".join(part for part in (url.host, url.database) if part)
        raise DatabaseError(
            f"database '{printable(url.render_as_string())}' names a host or a user, which a file does not have: write "
            f"sqlite:///{printable(path)} for the file {printable(path)}, or {_FORMS}"
        )
    return url.database or ""


def location_of(path: Path) -> Location:
    """The place of an SQLite file of the package's own making."""
    return Location(make_url("sqlite://").set(database=str(path)), path)


def _file(written: str) -> Location:
    shown = printable(written)
    try:
        path = Path(os.path.realpath(Path(written).expanduser()))
        written.encode()
    except UnicodeEncodeError:
        raise DatabaseError(f"database '{shown}' has a name that is not UTF-8, which SQLite cannot open") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise DatabaseError(f"database '{shown}' cannot be a file: {error}") from None
    if not Path(written).name or written == ":memory:":
        raise DatabaseError(f"database '{shown}' names no file: {_FORMS}")
    _is_there(path, shown)
    if written.rpartition("/")[2] in ("", ".", ".."):
        # A path forgets a slash or a dot at its end, and would make a file of the folder's name.
        raise DatabaseError(f"database '{shown}' names a folder: name a file in it with --db or NPAS_BENCH_DB")
    return Location(make_url("sqlite://").set(database=str(path)), path, written)


def _is_there(path: Path, shown: str) -> bool:
    """Tell whether a database's file exists; whatever else lies there is refused before it is opened or replaced."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DatabaseError(f"database '{shown}' cannot be a file: {error.strerror or error}") from None
    if stat.S_ISREG(mode):
        _check_header(path, shown)
        return True
    if stat.S_ISDIR(mode):
        raise DatabaseError(f"database '{shown}' is a folder: name a file in it with --db or NPAS_BENCH_DB")
    raise DatabaseError(f"database '{shown}' is {kind_of(mode)} and no regular file: {_FORMS}")


def _check_header(path: Path, shown: str) -> None:
    # SQLite takes empty and very short files for new databases.
    try:
        with path.open("rb") as file:
            start = file.read(len(HEADER))
    except OSError as error:
        raise DatabaseError(f"database '{shown}' cannot be opened: {error.strerror or error}") from None
    if start != HEADER:
        what = "is an empty file, which holds no" if not start else "is no SQLite database and holds no"
        raise DatabaseError(
            f"database '{shown}' {what} npas-bench results: remove it, or name another with --db or NPAS_BENCH_DB"
        )
