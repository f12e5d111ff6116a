"""Runs that were under way and whose checkpoints are not where this driver looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npas_bench.database.queries.epochs import epochs_of_runs
from npas_bench.runner.recorder import run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from npas_bench.database.keys import RunKey
    from npas_bench.database.opening import Database
    from npas_bench.database.runs import StoredRun
    from npas_bench.runner.planned import PlannedCell


def lost_checkpoints(
    cells: Sequence[PlannedCell], newest: Mapping[RunKey, StoredRun], database: Database, root: Path
) -> str | None:
    """A message about the runs that begin anew although they had whole epochs behind them; None if there are none.

    That happens to a database that was renamed, moved or copied without the folder beside it.

    Args:
        cells: the cells that are left to run.
        newest: the newest run of each cell that has one.
        database: the database that holds them, open.
        root: the folder that the folders of runs' checkpoints lie in.
    """
    bare = {
        newest[one.key].id
        for one in cells
        if one.key in newest
        and not any(run_folder(root, one.cell.identity, one.source, one.device, one.repeats).glob("*.pt"))
    }
    epochs = epochs_of_runs(database, sorted(bare))
    if not epochs:
        return None
    runs = "1 run that was under way begins" if len(epochs) == 1 else f"{len(epochs):,} runs that were under way begin"
    return (
        f"{runs} anew ({_epochs(sum(epochs.values()))} lost), since {root} holds no checkpoints of theirs. A "
        "database that was renamed or moved needs the folder of its checkpoints beside it, called after it with .work "
        "at the end: stop, bring the folder there, and give the same command again"
    )


def _epochs(number: int) -> str:
    return "1 epoch is" if number == 1 else f"{number:,} epochs are"
