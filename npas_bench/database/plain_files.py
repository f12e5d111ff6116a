"""What may lie where a file is to be written, and what of it may be written to."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from npas_bench.database.companions import begins_as_database, database_beside
from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link that leads nowhere",
}


def kind_of(mode: int) -> str:
    """What a file that is not a regular one is, as messages say it."""
    return _KINDS.get(stat.S_IFMT(mode), "no ordinary file")


def refuse_to_replace(path: Path, shown: str) -> None:
    """Refuse to write a text or a file of weights over what no user can mean: a device, a pipe, a database.

    Args:
        path: the place, which may be free.
        shown: how messages name it.

    Raises:
        DatabaseError: if something other than an ordinary file lies there, or an SQLite database, or if the place is
            that of a database's log or lock.
    """
    _refuse(path, shown, "written over")


def refuse_to_append(path: Path, shown: str) -> None:
    """Refuse to append a log to what no user can mean: a database, a disk, a pipe, at which the work would wait.

    Args:
        path: the place, which may be free, or a terminal or the like.
        shown: how messages name it.

    Raises:
        DatabaseError: as `refuse_to_replace` does, but for devices that take characters.
    """
    _refuse(path, shown, "appended to", also=(stat.S_IFCHR,))


def _refuse(path: Path, shown: str, done: str, also: tuple[int, ...] = ()) -> None:
    try:
        database = database_beside(path.resolve())
        if database is not None:
            raise DatabaseError(f"{shown} belongs to the database {database.name} beside it: name another file")
        mode = path.stat().st_mode
        if begins_as_database(path):
            raise DatabaseError(f"{shown} is an SQLite database, which is never {done}: name another file")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, RuntimeError) as error:
        raise DatabaseError(f"{shown} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_IFMT(mode) not in (stat.S_IFREG, *also):
        raise DatabaseError(f"{shown} is {kind_of(mode)}, which is never {done}: name another file")


def refuse_second_name(path: Path, shown: str) -> None:
    """Refuse to write to a database that has several names, each of which would have a lock and a log of its own.

    Args:
        path: real path of the database's file, which may not exist.
        shown: how messages name it.

    Raises:
        DatabaseError: if the file has another name by a hard link.
    """
    try:
        names = path.stat().st_nlink
    except OSError:
        return
    if names > 1:
        raise DatabaseError(
            f"database {shown} is a file with {names} names (hard links), and drivers under different names would "
            "destroy each other's results: it can be read, and to write, copy it with cp and name the copy with --db"
        )
