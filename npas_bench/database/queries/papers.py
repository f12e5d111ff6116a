"""The papers' numbers as a database holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from npas_bench.database.schema import PaperRow

if TYPE_CHECKING:
    from npas_bench.database.opening import Database


class PaperNumber(NamedTuple):
    """A number that a paper prints; fields are those of `PaperRow`."""

    source: str
    table: str
    task: str
    dataset: str
    architecture: str
    method: str
    variant: str
    budget_percent: float | None
    params_millions: float | None
    metric: str
    value: str
    spread: str | None
    runs: int | None
    higher_is_better: bool
    note: str
    method_here: str | None
    options_here: dict[str, Any] | None
    budget_here: float | None

    @property
    def percent(self) -> float | None:
        """The budget in per cent of the full architecture, printed or inferred; None if it is given otherwise."""
        return self.budget_here if self.budget_percent is None else self.budget_percent


_COLUMNS = tuple(getattr(PaperRow, name) for name in PaperNumber._fields)


def read_papers(database: Database) -> list[PaperNumber]:
    """The papers' numbers of a database, in the order of the package's list."""
    with database.session() as session:
        return [PaperNumber(*row) for row in session.execute(select(*_COLUMNS).order_by(PaperRow.position))]
