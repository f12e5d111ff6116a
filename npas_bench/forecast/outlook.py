"""What a set of cells takes together on a number of cores or GPUs: time, memory and disk."""

from __future__ import annotations

import heapq
import os
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.runner.device import device_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.forecast.forecast import Estimate
    from npas_bench.runner.planned import PlannedCell

# Seconds until the first worker is at work, and seconds around every cell for its network, data and database row.
_START_SECONDS = 6.0
_CELL_SECONDS = 0.15
# Bytes of a checkpoint: for each scalar its weight and momentum in single precision, and for all the rest.
_SCALAR_BYTES = 8
_FILE_BYTES = 100_000
# Two files exist for a moment, since a new one replaces the old one when it is whole.
_FILES = 2
# Bytes of a run in the database, and of each epoch in its history.
_RUN_BYTES = 4_500
_EPOCH_BYTES = 160


class Outlook(NamedTuple):
    """What cells take together.

    Attributes:
        cells: number of cells.
        lanes: number of CPU threads or GPUs that they run on.
        device_seconds: CPU time or GPU time, summed over all lanes.
        seconds: seconds until the last cell is finished.
        memory: bytes of the worker that needs most; None if that is not known.
        checkpoints: largest number of bytes on disk while they run.
        growth: bytes by which the database grows.
    """

    cells: int
    lanes: int
    device_seconds: float
    seconds: float
    memory: int | None
    checkpoints: int
    growth: int


def look_out(planned: Sequence[PlannedCell], estimates: Sequence[Estimate], lanes: int) -> Outlook:
    """What cells take together if the longest begin first, whenever enough lanes are free.

    Args:
        planned: the cells.
        estimates: the estimate of each cell.
        lanes: number of CPU threads or GPUs.
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
    """Seconds until the last of several jobs ends if the longest begin first.

    Args:
        jobs: the seconds of each job, and the number of lanes that it takes.
        lanes: the number of lanes.
    """
    free = [0.0] * lanes
    for seconds, width in sorted(jobs, reverse=True):
        taken = [heapq.heappop(free) for _ in range(min(width, lanes))]
        for _ in taken:
            heapq.heappush(free, taken[-1] + seconds)
    return max(free)


def lanes_here(device: str) -> int:
    """The number of CPU threads of this machine, or of its GPUs for cells that run on GPUs."""
    if device_class(device) == "cpu":
        return os.cpu_count() or 1
    import torch

    return 1 if ":" in device else max(1, torch.cuda.device_count())


def _width(one: PlannedCell) -> int:
    return one.cell.recipe.threads if device_class(one.device) == "cpu" else 1
