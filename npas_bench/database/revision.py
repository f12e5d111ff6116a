"""Texts that change whenever the content of a database may have changed; caches of results are keyed by them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from npas_bench.database.schema import PaperRow, RunRow

if TYPE_CHECKING:
    from npas_bench.database.location import Location
    from npas_bench.database.opening import Database


def file_revision(location: Location) -> str | None:
    """The revision of a file and its write-ahead log, without opening them; None for a server or a missing file."""
    if location.path is None:
        return None
    parts = []
    for path in (location.path, location.path.with_name(f"{location.path.name}-wal")):
        with suppress(OSError):
            state = path.stat()
            parts.append(f"{state.st_ino}.{state.st_size}.{state.st_mtime_ns}")
    return "/".join(parts) or None


def server_revision(database: Database) -> str:
    """The revision of a server's database: its results, counted on an index, and its edition of the papers' list."""
    results = select(func.count(), func.max(RunRow.finished)).where(RunRow.current)
    with database.session() as session:
        found = (*session.execute(results).one(), session.scalar(select(func.max(PaperRow.edition))))
    return "/".join(map(str, found))
