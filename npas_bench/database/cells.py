"""Storing cells: what lies outside a cell's identity is told by the installation that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exists
from sqlalchemy.dialects import postgresql, sqlite

from npas_bench.database.schema import CellRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

# An importer may tell these fields as it likes: no identity holds them.
_TOLD = ("budget_text", "full", "recipe", "recipe_name")


def insert_for(session: Session) -> Any:
    """The `insert` of the database's own dialect, which can say what happens to rows that are there already."""
    return postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert


def add_cells(session: Session, cells: Iterable[Mapping[str, Any]], *, own: bool) -> None:
    """Store cells that are not there yet.

    Args:
        session: in a transaction.
        cells: columns of the cells.
        own: whether they are about to be run here. Then the names and the full size that an import gave a cell, and
            that lie outside its identity, are replaced by those of this installation.
    """
    # Two transactions that add the same cells in different orders would wait for each other for ever.
    rows = sorted((dict(cell) for cell in cells), key=lambda cell: cell["identity"])
    if not rows:
        return
    adding = insert_for(session)(CellRow)
    if not own:
        session.execute(adding.on_conflict_do_nothing(), rows)
        return
    ours = exists().where(RunRow.identity == CellRow.identity, RunRow.origin.is_(None), RunRow.repeats.is_(None))
    told = {name: adding.excluded[name] for name in _TOLD}
    session.execute(adding.on_conflict_do_update(index_elements=[CellRow.identity], set_=told, where=~ours), rows)
