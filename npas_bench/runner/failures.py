"""Outcomes of cells that could not be run to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from npas_bench.database.states import RunState
from npas_bench.runner.machine import peak_memory
from npas_bench.runner.work import Outcome

if TYPE_CHECKING:
    from npas_bench.errors import StorageError
    from npas_bench.runner.work import Work


class Overdue(Exception):
    """Raised at the end of an epoch when an attempt took longer than it may."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(epoch)


def overdue_outcome(work: Work, epoch: int, **fields: Any) -> Outcome:
    """The outcome of a cell that took longer than it may; it goes on when it is run again."""
    return Outcome(
        state=RunState.FAILED,
        message=f"its deadline of {work.deadline:,.4g} s passed after epoch {epoch} of {work.cell.recipe.epochs}",
        resumable=True,
        cause="time",
        **fields,
    )


def out_of_memory(work: Work, error: Exception) -> str | None:
    """A message for an error that means that memory was not enough; None for other errors."""
    # On a CPU, torch raises an ordinary RuntimeError.
    named = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if not named:
        return None
    peak = peak_memory(torch.device(work.device)) / 2**30
    return (
        f"out of memory: a batch of {work.cell.recipe.batch_size} does not fit (peak {peak:.2f} GiB on {work.device}); "
        "a recipe of more parts, or --regenerate, needs less"
    )


def unstorable_outcome(error: StorageError, **facts: Any) -> Outcome:
    """The outcome of a cell whose checkpoints could not be written; a later run goes on from those that were."""
    return Outcome(state=RunState.FAILED, message=str(error), resumable=True, cause="storage", **facts)
