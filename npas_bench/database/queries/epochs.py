"""How far runs that have not ended had come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from npas_bench.database.schema import RunRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.database.opening import Database

_AT_ONCE = 500


def epochs_of_runs(database: Database, runs: Sequence[int]) -> dict[int, int]:
    """The whole epochs that the last attempts at some runs had reached, by number; those without one are left out."""
    found: dict[int, int] = {}
    with database.session() as session:
        for start in range(0, len(runs), _AT_ONCE):
            query = select(RunRow.id, RunRow.epoch).where(
                RunRow.id.in_(runs[start : start + _AT_ONCE]), RunRow.epoch > 0
            )
            found |= {run: epoch for run, epoch in session.execute(query) if epoch}
    return found
