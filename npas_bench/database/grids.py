"""Which runs belong to a grid: those of its cells, and those that were begun for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import JSON, Text, cast, column, func, literal, or_, select

from npas_bench.database.schema import RunRow

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from npas_bench.database.location import Location
    from npas_bench.database.opening import Database


class GridRuns(NamedTuple):
    """The runs of a grid.

    Attributes:
        name: the grid as the user calls it.
        noted: what runs that were begun for the grid have noted as its name.
        identities: the identities of the grid's cells; empty where the grid cannot be read here.
    """

    name: str
    noted: tuple[str, ...]
    identities: tuple[str, ...] = ()

    def condition(self, database: Database) -> ColumnElement[bool]:
        """The condition that a run belongs to the grid."""
        noted = RunRow.grid.in_(self.noted)
        if not self.identities:
            return noted
        # One parameter, however many cells there are: databases limit the number of parameters.
        content = literal(json.dumps(self.identities), Text)
        if database.engine.dialect.name == "postgresql":
            cells = select(func.json_array_elements_text(cast(content, JSON)))
        else:
            cells = select(func.json_each(content).table_valued(column("value", Text)).c.value)
        return or_(noted, RunRow.identity.in_(cells))


def noted_name(grid: str, location: Location) -> str:
    """What runs note as the name of a grid: its name, or its file's place, the same by whichever path it is reached.

    The place is told from the database's folder where the file lies in or below it.

    Args:
        grid: name of a grid, or path of its file.
        location: the place of the database.
    """
    if not Path(grid).suffix:
        return grid
    real = Path(os.path.realpath(Path(grid).expanduser()))
    folder = location.path.parent if location.path is not None else Path.cwd()
    return str(real.relative_to(folder)) if real.is_relative_to(folder) else str(real)
