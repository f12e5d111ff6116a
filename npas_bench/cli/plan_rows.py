"""The rows of a plan: cells that differ in their seeds alone, with what is known before they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from npas_bench.forecast.forecast import Estimate
    from npas_bench.runner.planned import PlannedCell

# The states of cells that a run leaves alone.
FINAL: set[str] = {state for state in RunState if state.final}
# What may go wrong with a cell, beside a budget that is not supported.
WOULD_FAIL = "would fail"
NOT_KNOWN = "not known"


class Preview(NamedTuple):
    """What is known about a cell before it is trained.

    Attributes:
        parameters: how many trainable scalars its network has; None if no network can be built.
        trouble: in one or two words, what would go wrong; None if nothing would.
        reason: why it would go wrong; None if nothing would.
    """

    parameters: int | None
    trouble: str | None
    reason: str | None


class Row(NamedTuple):
    """Cells that differ in their seed alone.

    Attributes:
        first: the first of the cells.
        cells: the indices of the cells in the plan.
        states: how many of the cells are in each state.
        estimate: the time and memory that each of the cells will take.
        preview: what is known about each of the cells.
    """

    first: PlannedCell
    cells: list[int]
    states: dict[str, int]
    estimate: Estimate
    preview: Preview

    @property
    def runs_to_nothing(self) -> bool:
        """Tell whether a run of these cells would end without a result, as far as is known."""
        return self.preview.trouble is not None and self.preview.trouble != NOT_KNOWN

    @property
    def state(self) -> str:
        """The states of the cells in words, or what would go wrong."""
        if self.preview.trouble is not None and not self.states.keys() <= FINAL:
            return self.preview.trouble
        return ", ".join(f"{n} {state}" if len(self.states) > 1 else state for state, n in self.states.items())
