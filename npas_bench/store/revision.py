"""What changes whenever a store's content may have: what a cache of results is kept by."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from npas_bench.store.database import Store
    from npas_bench.store.location import Location

# The server counts rows that were written; it may tell of them a second late, and then tells of a change once more.
_WRITTEN = text(
    "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables "
    "WHERE relname IN ('cells', 'runs', 'metrics', 'papers')"
)


def file_revision(location: Location) -> str | None:
    """Of a file and its write-ahead log, without opening them; None for a server, or where there is no file."""
    if location.path is None:
        return None
    parts = []
    for path in (location.path, location.path.with_name(f"{location.path.name}-wal")):
        with suppress(OSError):
            state = path.stat()
            parts.append(f"{state.st_ino}.{state.st_size}.{state.st_mtime_ns}")
    return "/".join(parts) or None


def server_revision(store: Store) -> str:
    """Of a server's database."""
    with store.session() as session:
        return str(session.scalar(_WRITTEN))
