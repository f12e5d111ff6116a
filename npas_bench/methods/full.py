"""`full`: the architecture itself without sharing, which every method is compared with."""

from __future__ import annotations

from typing_extensions import override

from npas_bench.errors import UnsupportedBudget
from npas_bench.methods.base import Method, Problem
from npas_bench.network import Network, PlainNetwork


class Full(Method):
    """Trains the architecture itself."""

    name = "full"
    whole = True

    @override
    def build(self, problem: Problem) -> Network:
        """The plain network, for which the budget must cover all of its parameters."""
        if problem.budget < problem.full:
            raise UnsupportedBudget(
                f"{problem.architecture.name} itself needs its {problem.full:,} parameters", smallest=problem.full
            )
        return PlainNetwork(problem.module())
