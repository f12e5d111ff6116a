"""`lowrank`, an example of a method in a distribution of its own.

Every layer's weight is the product of two thin matrices, whose rank is the same for all layers. Nothing is shared
between layers: the rank alone decides how many parameters there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from npas_bench.allocation import Allocation
from npas_bench.errors import UnsupportedBudget
from npas_bench.methods import MethodOptions, Problem, SharingMethod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer


class LowRankOptions(MethodOptions):
    """Options of `lowrank`.

    Attributes:
        gain: factor of the initial deviation of every weight, without a unit.
    """

    gain: float = Field(default=1.0, gt=0)


class LowRankAllocation(Allocation):
    """Two factors for each layer, whose product is the layer's weight."""

    def __init__(self, layers: Sequence[Layer], rank: int, gain: float) -> None:
        super().__init__()
        self._layers = {layer.name: (index, layer) for index, layer in enumerate(layers)}
        self.left, self.right = nn.ParameterList(), nn.ParameterList()
        for layer in layers:
            out = layer.shape[0]
            inner = min(rank, out, layer.size // out)
            # The product of two factors of deviation d and inner dimension r has the deviation d^2 sqrt(r).
            deviation = math.sqrt(gain * layer.deviation / math.sqrt(inner))
            self.left.append(nn.Parameter(torch.randn(out, inner) * deviation))
            self.right.append(nn.Parameter(torch.randn(inner, layer.size // out) * deviation))

    def weight(self, layer: str) -> Tensor:
        """The product of the layer's factors, in its shape."""
        index, wanted = self._layers[layer]
        return (self.left[index] @ self.right[index]).view(wanted.shape)


class LowRank(SharingMethod):
    """Generates every weight from two factors of the largest rank that the budget pays for."""

    name = "lowrank"
    Options = LowRankOptions
    options: LowRankOptions

    def allocate(self, problem: Problem) -> LowRankAllocation:
        """The factors of all layers, of one rank.

        Raises:
            UnsupportedBudget: if the budget does not pay for rank one.
        """
        if _cost(problem.layers, 1) > problem.available:
            raise UnsupportedBudget(
                f"{problem.budget:,} do not pay for rank one", smallest=problem.fixed + _cost(problem.layers, 1)
            )
        largest = max(min(layer.shape[0], layer.size // layer.shape[0]) for layer in problem.layers)
        rank = max(r for r in range(1, largest + 1) if _cost(problem.layers, r) <= problem.available)
        return LowRankAllocation(problem.layers, rank, self.options.gain)


def _cost(layers: Sequence[Layer], rank: int) -> int:
    sides = [(layer.shape[0], layer.size // layer.shape[0]) for layer in layers]
    return sum(min(rank, out, into) * (out + into) for out, into in sides)
