"""`reduced`: a smaller network of the same family, the baseline without sharing (Plummer et al. 2022, section 4)."""

from __future__ import annotations

from typing_extensions import override

from npas_bench.methods.base import Method, Problem
from npas_bench.network import Network, PlainNetwork


class Reduced(Method):
    """Trains the largest smaller version of the architecture that fits the budget."""

    name = "reduced"

    @override
    def build(self, problem: Problem) -> Network:
        """A plain network of the smaller architecture."""
        smaller = problem.smaller()
        return PlainNetwork(smaller.build(problem.signature), remark=smaller.name)
