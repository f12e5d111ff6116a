"""The numbers that papers print, which every results database holds beside its results.

The list itself belongs to the leaderboard, which hands it over whenever a database is made or opened for writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, func, insert, select

from npas_bench.database.schema import PaperRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection


class PaperList(NamedTuple):
    """A list of papers' numbers.

    Attributes:
        edition: a text that changes whenever the list does.
        rows: the columns of `PaperRow`, but for position and edition, in the list's order.
    """

    edition: str
    rows: Sequence[Mapping[str, Any]]


def fill_papers(connection: Connection, papers: PaperList) -> None:
    """Replace a database's papers' numbers by another edition of the list, in the connection's transaction."""
    if papers_current(connection, papers):
        return
    connection.execute(delete(PaperRow))
    rows = [{"position": place, "edition": papers.edition, **row} for place, row in enumerate(papers.rows)]
    if rows:
        connection.execute(insert(PaperRow), rows)


def papers_current(connection: Connection, papers: PaperList) -> bool:
    """Tell whether a database holds exactly this edition of the list."""
    found = connection.execute(select(PaperRow.edition, func.count()).group_by(PaperRow.edition)).all()
    return [tuple(row) for row in found] == [(papers.edition, len(papers.rows))]
