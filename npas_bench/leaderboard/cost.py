"""What a result costs, and which results no other result beats at their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.leaderboard.standings import Band, BoardTable, Standing


class CostAxis(NamedTuple):
    """A way to count what a result costs.

    Attributes:
        name: what is counted, as people read it.
        unit: the unit that it is counted in.
        of: reads the cost off a standing; None if it is not known.
    """

    name: str
    unit: str
    of: Callable[[Standing], float | None]


def _flops(standing: Standing) -> float | None:
    if standing.forward_flops is None or standing.generation_flops is None:
        return None
    return (standing.forward_flops + standing.generation_flops) / 1e6


COSTS = {
    "time": CostAxis(
        "training step", "ms", lambda s: None if s.seconds_per_step is None else 1000 * s.seconds_per_step
    ),
    "memory": CostAxis("peak memory", "MiB", lambda s: None if s.peak_memory is None else s.peak_memory / 2**20),
    "flops": CostAxis("forward pass of one example and generating all weights", "MFLOP", _flops),
    "parameters": CostAxis("parameters", "", lambda s: s.parameters),
}


class Spent(NamedTuple):
    """A result and its cost.

    Attributes:
        band: the budget that the result was made within.
        standing: the result.
        cost: what the result costs, in the unit of its `CostAxis`.
        best: whether the result is in the Pareto set: no other result of the table is better at the same or a lower
            cost, or as good at a lower cost.
    """

    band: Band
    standing: Standing
    cost: float
    best: bool


def spent(table: BoardTable, cost: CostAxis) -> list[Spent]:
    """The results of a table with their cost, cheapest first.

    Results without a mean or without a known cost are left out.
    """
    found = []
    for band in table.bands:
        for standing in band.standings:
            spending = cost.of(standing)
            if standing.mean is not None and spending is not None:
                found.append(
                    (spending, standing.mean if not table.higher_is_better else -standing.mean, band, standing)
                )
    found.sort(key=lambda one: (one[0], one[1], one[3].label))
    best: list[Spent] = []
    reached = (float("inf"), float("inf"))
    for spending, badness, band, standing in found:
        beaten = (spending, badness) != reached and badness >= reached[1]
        best.append(Spent(band, standing, spending, not beaten))
        reached = reached if beaten else (spending, badness)
    return best
