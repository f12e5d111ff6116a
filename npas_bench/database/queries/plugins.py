"""The code of plugins that runs were made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from npas_bench.database.schema import RunRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.database.opening import Database

_AT_ONCE = 500


def plugins_of_runs(database: Database, runs: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The code of the plugins of some runs, by number; runs of which none is recorded are left out."""
    found: dict[int, list[dict[str, Any]]] = {}
    with database.session() as session:
        for start in range(0, len(runs), _AT_ONCE):
            some = runs[start : start + _AT_ONCE]
            query = select(RunRow.id, RunRow.plugins).where(RunRow.id.in_(some), RunRow.plugins.is_not(None))
            found |= {run: plugins for run, plugins in session.execute(query) if plugins}
    return found
