"""Cells with the data and the device that they would run on, and which of them are left to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from npas_bench.database.keys import RunKey
from npas_bench.database.states import RunState
from npas_bench.runner.device import device_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from npas_bench.cells.cell import Cell
    from npas_bench.database.runs import StoredRun
    from npas_bench.tasks import DataVersion

Only = Literal["failed", "missing", "stale"]


class PlannedCell(NamedTuple):
    """A cell with the data and the device that this machine would run it on.

    Attributes:
        cell: the cell.
        full: number of trainable scalars of its full architecture.
        source: the version of its task's data here.
        device: `cpu`, `cuda` or `cuda:N`.
        repeats: uid of the finished run that is to be repeated; None where the cell is run for its own result.
    """

    cell: Cell
    full: int
    source: DataVersion
    device: str
    repeats: str | None = None

    @property
    def key(self) -> RunKey:
        """Cell, data and class of device, for which there is one finished run."""
        return RunKey(self.cell.identity, self.source.digest, device_class(self.device))


def left_over(
    planned: Sequence[PlannedCell], newest: Mapping[RunKey, StoredRun], only: Only | None
) -> list[PlannedCell]:
    """The cells that are to run: those without a finished run.

    Args:
        planned: all cells.
        newest: the newest run of each cell that has one.
        only: `failed` takes only failed cells, `stale` only those that a dead driver left behind, `missing` all
            others; None takes all.
    """
    left = []
    for one in planned:
        state = newest[one.key].state if one.key in newest else None
        if state is not None and state.final:
            continue
        kind = state if state in (RunState.FAILED, RunState.STALE) else "missing"
        if only is None or kind == only:
            left.append(one)
    return left
