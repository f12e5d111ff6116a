"""The files that SQLite and drivers keep beside a database: its logs and its lock."""

from __future__ import annotations

import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# The bytes that every SQLite database begins with.
HEADER = b"SQLite format 3\0"
_LOGS = ("-wal", "-journal")
_COMPANIONS = (*_LOGS, "-shm", ".lock")


def logs_beside(path: Path) -> list[Path]:
    """The logs of a driver that is at work or was killed, which SQLite takes for those of the file at a place.

    Args:
        path: the place of a database, which may be free.
    """
    return [log for log in (path.with_name(f"{path.name}{ending}") for ending in _LOGS) if _holds_something(log)]


def _holds_something(path: Path) -> bool:
    try:
        state = path.lstat()
    except OSError:
        return False
    return not stat.S_ISREG(state.st_mode) or state.st_size > 0


def database_beside(path: Path) -> Path | None:
    """The database that a file belongs to as its log or its lock; None if it belongs to none.

    Args:
        path: real path of the file, which need not exist.
    """
    for ending in _COMPANIONS:
        if path.name.endswith(ending) and path.name != ending:
            database = path.with_name(path.name.removesuffix(ending))
            with suppress(OSError):
                if begins_as_database(database):
                    return database
    return None


def begins_as_database(path: Path) -> bool:
    """Tell whether a regular file that begins as SQLite databases do lies at a place.

    Raises:
        OSError: if it cannot be read.
    """
    # Opening a named pipe would wait for its other end.
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER
