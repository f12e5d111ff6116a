"""How far runs had come that can go on, or be gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from npas_bench.database.schema import RunRow
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.database.opening import Database

_AT_ONCE = 500


def epochs_of_runs(database: Database, runs: Sequence[int]) -> dict[int, int]:
    """The whole epochs that the last attempts at some runs had reached, by number; those without one are left out.

    A run that failed through its cell, and not for want of time, storage or workers, is left out too: it leaves no
    checkpoints, and its cell begins anew in any case.
    """
    found: dict[int, int] = {}
    # Errors of a cell are stored with their traceback, and a training that diverged has a message of this form.
    through_its_cell = RunRow.detail.is_not(None) | func.coalesce(RunRow.message, "").startswith("diverged ")
    leaves_checkpoints = (RunRow.state != RunState.FAILED) | ~through_its_cell
    with database.session() as session:
        for start in range(0, len(runs), _AT_ONCE):
            query = select(RunRow.id, RunRow.epoch).where(
                RunRow.id.in_(runs[start : start + _AT_ONCE]), RunRow.epoch > 0, leaves_checkpoints
            )
            found |= {run: epoch for run, epoch in session.execute(query) if epoch}
    return found
