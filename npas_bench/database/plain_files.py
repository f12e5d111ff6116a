"""What may lie where a file is to be written, and what of it may be written over."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from npas_bench.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

# The bytes that every SQLite database begins with.
HEADER = b"SQLite format 3\0"
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
        DatabaseError: if something other than an ordinary file lies there, or an SQLite database.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                start = file.read(len(HEADER))
            if start == HEADER:
                raise DatabaseError(f"{shown} is an SQLite database, which is never written over: name another file")
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise DatabaseError(f"{shown} cannot be written: {error.strerror or error}") from None
    raise DatabaseError(f"{shown} is {kind_of(mode)}, which is never written over: name another file")
