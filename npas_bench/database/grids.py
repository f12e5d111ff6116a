"""Which runs belong to a grid: those of its cells, and those that were begun for it by another recipe or version."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import JSON, Text, and_, cast, column, func, literal, or_, select
from sqlalchemy.orm import aliased

from npas_bench.database.schema import CellRow, RunRow
from npas_bench.errors import NpasBenchError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select

    from npas_bench.cells.cell import Cell
    from npas_bench.database.location import Location
    from npas_bench.database.opening import Database


class GridRuns(NamedTuple):
    """The runs of a grid.

    The name of an installed grid means the same everywhere, so that what runs note counts. The name of a file does not:
    a run that notes it belongs to the grid if its cell differs from a cell of the file in recipe, options or versions
    alone. Where there is no such file, the runs of this database that note it belong to it, and imported ones do not.

    Attributes:
        name: the grid as the user calls it.
        noted: what runs that were begun for the grid have noted as its name.
        known: whether there is such a grid here, with runs or without.
        cells: the grid's cells; empty where they cannot be told here, and what runs noted decides.
    """

    name: str
    noted: tuple[str, ...]
    known: bool = False
    cells: tuple[Cell, ...] = ()

    def condition(self, database: Database) -> ColumnElement[bool]:
        """The condition that a run belongs to the grid."""
        begun = RunRow.grid.in_(self.noted)
        if not self.cells:
            return and_(begun, RunRow.origin.is_(None)) if is_file_name(self.name) else begun
        of_cells = RunRow.identity.in_(_listed(database, [cell.identity for cell in self.cells]))
        if not is_file_name(self.name):
            return or_(of_cells, begun)
        # The file may have had other cells when the runs were begun, and other people's files have the same names.
        points = _listed(database, sorted({_point(cell) for cell in self.cells}))
        akin = RunRow.identity.in_(select(_StoredCell.identity).where(_STORED_POINT.in_(points)))
        return or_(of_cells, and_(begun, akin))

    def without_runs(self, database: Database) -> NpasBenchError:
        """The error for a grid that a database has no runs of; it offers others where there is no such grid at all."""
        if self.known:
            return NpasBenchError(f"grid {self.name} has no runs in database {database.location}")
        query = select(RunRow.grid, RunRow.origin.is_(None)).where(RunRow.grid.is_not(None)).distinct()
        with database.session() as session:
            noted = {name for name, own in session.execute(query) if name and (own or not is_file_name(name))}
        return UnknownName("grid", self.name, noted, remedy="of those with runs")


def is_file_name(grid: str) -> bool:
    """Tell whether the name of a grid is that of a file, and not one under which the grid is installed."""
    return bool(Path(grid).suffix)


def _point(cell: Cell) -> str:
    """All that determines a cell but its recipe, its options and its versions, which commands and updates change."""
    return "\n".join((cell.task, cell.architecture, cell.method, str(cell.budget), str(cell.seed)))


# The cells of a query of its own, whatever the query around it joins.
_StoredCell = aliased(CellRow)
_STORED_POINT = (
    _StoredCell.task
    + literal("\n")
    + _StoredCell.architecture
    + literal("\n")
    + _StoredCell.method
    + literal("\n")
    + cast(_StoredCell.budget, Text)
    + literal("\n")
    + cast(_StoredCell.seed, Text)
)


def _listed(database: Database, values: Sequence[str]) -> Select[tuple[str]]:
    """A query that yields some texts, by one parameter, since databases limit the number of parameters."""
    content = literal(json.dumps(values), Text)
    if database.engine.dialect.name == "postgresql":
        return select(func.json_array_elements_text(cast(content, JSON)))
    return select(func.json_each(content).table_valued(column("value", Text)).c.value)


def noted_name(grid: str, location: Location) -> str:
    """What runs note as the name of a grid: its name, or its file's place, the same by whichever path it is reached.

    The place is told from the database's folder where the file lies in or below it.

    Args:
        grid: name of a grid, or path of its file.
        location: the place of the database.
    """
    if not is_file_name(grid):
        return grid
    real = Path(os.path.realpath(Path(grid).expanduser()))
    folder = location.path.parent if location.path is not None else Path.cwd()
    return str(real.relative_to(folder)) if real.is_relative_to(folder) else str(real)
