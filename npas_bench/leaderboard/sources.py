"""The databases that a board is read from: a user's own and the published board, which are never mixed."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.database.damage import reaching
from npas_bench.database.opening import open_for_reading
from npas_bench.leaderboard.published import open_published, published_location
from npas_bench.leaderboard.which import Which

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npas_bench.database.opening import Database, Location


class Source(NamedTuple):
    """A database that results are read from.

    Attributes:
        name: `mine` or `published`.
        title: the source as people read it.
        database: the database, open for reading.
    """

    name: str
    title: str
    database: Database


@contextmanager
def open_sources(
    location: Location, which: Which = Which.all, *, patience: float | None = None
) -> Iterator[list[Source]]:
    """Open a user's own database and the published board, those that exist, for as long as the block lasts.

    Args:
        location: the place of the user's database, which need not exist.
        which: which of the two to open.
        patience: how many seconds to wait for a file that is locked.

    Raises:
        DatabaseError: if one of them exists and cannot be read.
    """
    found = []
    with ExitStack() as stack:
        if which is not Which.published:
            stack.enter_context(reaching(location))
            mine = open_for_reading(location, patience=patience)
            if mine is not None:
                stack.callback(mine.close)
                found.append(Source("mine", f"Your runs ({location})", mine))
        published = published_location()
        if which is not Which.mine and published is not None:
            stack.enter_context(reaching(published))
            shipped = open_published()
            if shipped is not None and shipped.location.path is not None:
                stack.callback(shipped.close)
                found.append(Source("published", f"Published board ({shipped.location.path.name})", shipped))
        yield found
