"""What a set of cells takes together: time, finishing time, memory and disk, on so many cores or GPUs."""

from __future__ import annotations

import heapq
import os
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.runner.device import device_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.forecast.forecast import Estimate
    from npas_bench.runner.planned import PlannedCell

# Until the first worker is at work, and around every cell: its network, its data, its row in the database.
_START_SECONDS = 6.0
_CELL_SECONDS = 0.15
# Of a checkpoint: weights and momentum, in single precision; and what it has beside these.
_SCALAR_BYTES = 8
_FILE_BYTES = 100_000
# A file takes the place of the one before it once it is whole.
_FILES = 2
# Of a run in the database, and of each epoch in its history.
_RUN_BYTES = 4_500
_EPOCH_BYTES = 160


class Outlook(NamedTuple):
    """What cells take together.

    Attributes:
        cells: how many.
        lanes: CPU threads or GPUs that they have.
        device_seconds: of all lanes together: CPU time, or GPU time.
        seconds: until the last one is finished.
        memory: bytes of the worker that needs most; None where nothing is known.
        checkpoints: bytes on disk while they run, at most.
        growth: bytes that the database grows by.
    """

    cells: int
    lanes: int
    device_seconds: float
    seconds: float
    memory: int | None
    checkpoints: int
    growth: int


def look_out(planned: Sequence[PlannedCell], estimates: Sequence[Estimate], lanes: int) -> Outlook:
    """What these cells take, the longest first, whenever enough lanes are free.

    Args:
        planned: the cells.
        estimates: of each.
        lanes: CPU threads or GPUs.
    """
    widths = [min(lanes, _width(one)) for one in planned]
    seconds = [estimate.seconds + _CELL_SECONDS for estimate in estimates]
    files = sorted((_SCALAR_BYTES * one.cell.budget + _FILE_BYTES for one in planned), reverse=True)
    return Outlook(
        cells=len(planned),
        lanes=lanes,
        device_seconds=sum(width * each for width, each in zip(widths, seconds, strict=True)),
        seconds=finish(zip(seconds, widths, strict=True), lanes) + _START_SECONDS if planned else 0.0,
        memory=max((estimate.memory for estimate in estimates if estimate.memory is not None), default=None),
        checkpoints=_FILES * sum(files[:lanes]),
        growth=sum(_RUN_BYTES + _EPOCH_BYTES * one.cell.recipe.epochs for one in planned),
    )


def finish(jobs: Iterable[tuple[float, int]], lanes: int) -> float:
    """When the last of several jobs ends, the longest of them begun first.

    Args:
        jobs: seconds of each, and the lanes that it takes.
        lanes: that there are.
    """
    free = [0.0] * lanes
    for seconds, width in sorted(jobs, reverse=True):
        taken = [heapq.heappop(free) for _ in range(min(width, lanes))]
        for _ in taken:
            heapq.heappush(free, taken[-1] + seconds)
    return max(free)


def lanes_here(device: str) -> int:
    """CPU threads of this machine, or its GPUs where cells run on these."""
    if device_class(device) == "cpu":
        return os.cpu_count() or 1
    import torch

    return 1 if ":" in device else max(1, torch.cuda.device_count())


def _width(one: PlannedCell) -> int:
    return one.cell.recipe.threads if device_class(one.device) == "cpu" else 1
