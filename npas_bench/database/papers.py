"""The numbers that papers print, from the package's `papers.csv` into every database.

One row a number, with where it is printed; `method_here`, `options_here` and `budget_here` say which method of this
suite it can be set against, where there is one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, func, insert, select

from npas_bench.database.schema import PaperRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from npas_bench.database.opening import Database


def fill_papers(connection: Connection) -> None:
    """Bring a database's papers' numbers up to the package's list, in the connection's transaction."""
    content = _content()
    edition = _edition(content)
    found = connection.execute(select(PaperRow.edition, func.count()).group_by(PaperRow.edition)).all()
    rows = _rows(content)
    if [tuple(row) for row in found] == [(edition, len(rows))]:
        return
    connection.execute(delete(PaperRow))
    connection.execute(insert(PaperRow), [{"position": n, "edition": edition, **row} for n, row in enumerate(rows)])


def papers_current(connection: Connection) -> bool:
    """Whether a database's papers' numbers are the package's."""
    editions = connection.execute(select(PaperRow.edition).distinct()).scalars().all()
    return list(editions) == [_edition(_content())]


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
        """The budget in per cent of the full architecture, printed or inferred; None if it is told otherwise."""
        return self.budget_here if self.budget_percent is None else self.budget_percent


_COLUMNS = tuple(getattr(PaperRow, name) for name in PaperNumber._fields)


def read_papers(database: Database) -> list[PaperNumber]:
    """The papers' numbers of a database, in the order of the package's list."""
    with database.session() as session:
        return [PaperNumber(*row) for row in session.execute(select(*_COLUMNS).order_by(PaperRow.position))]


def _content() -> bytes:
    return (files("npas_bench.database") / "papers.csv").read_bytes()


def _edition(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# What a field of the list becomes in a row; fields not named here stay text.
_FIELDS: dict[str, Callable[[str], Any]] = {
    "budget_percent": lambda text: float(text) if text else None,
    "params_millions": lambda text: float(text) if text else None,
    "spread": lambda text: text or None,
    "runs": lambda text: int(text) if text else None,
    "higher_is_better": lambda text: text == "true",
    "method_here": lambda text: text or None,
    "options_here": lambda text: json.loads(text) if text else None,
    "budget_here": lambda text: float(text) if text else None,
}


def _rows(content: bytes) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    return [{name: _FIELDS.get(name, str)(text) for name, text in row.items()} for row in reader]
