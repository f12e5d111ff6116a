"""`ssn`: Shapeshifter Networks (Plummer et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from npas_bench.generation.allotment import Request, apportion
from npas_bench.generation.plan import reader_of
from npas_bench.methods.base import Problem, SharingMethod, require
from npas_bench.methods.ssn.allocation import GroupPlan, SSNAllocation
from npas_bench.methods.ssn.mapping import check_mapping, map_layers
from npas_bench.methods.ssn.options import SSNOptions
from npas_bench.seeding import seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer

__all__ = ["SSN", "GroupPlan", "SSNAllocation", "SSNOptions"]


class SSN(SharingMethod):
    """Generates layers' weights by mixing or upsampling parts of flat stores, one store for each parameter group."""

    name = "ssn"
    version = 2
    Options = SSNOptions
    options: SSNOptions

    @override
    def allocate(self, problem: Problem) -> SSNAllocation:
        """The parameter groups with the largest stores that the budget pays for, with all that goes with them."""
        # No budget helps against these, so that a budget is told about only where some budget works.
        check_mapping(problem, self.options)
        # A single group of all layers needs least, and any mapping can come down to it.
        require(problem.fixed + self._claim(problem.layers).smallest, problem)
        # What a search draws must not change the initial values of the network that is built after it.
        with seeded("search", problem.seed):
            wanted = map_layers(problem, self.options)
        found = apportion(wanted, self._claim, problem.layers, problem.available)
        plans = [
            GroupPlan(group, store, request.variant)
            for group, store, request in zip(found.groups, found.stores, found.requests, strict=True)
        ]
        remarks = [r for r in (found.shortfall("parameter groups", len(wanted)), found.remark) if r]
        if self.options.mapping == "auto" and problem.trial is None and not problem.structure:
            remarks.insert(0, "groups drawn at random in place of the search")
        found_mapping = self.options.mapping == "auto" and (problem.trial is not None or problem.structure)
        mapping = {layer.name: index for index, group in enumerate(wanted) for layer in group}
        return SSNAllocation(plans, "; ".join(remarks) or None, mapping if found_mapping else None)

    def _claim(self, layers: Sequence[Layer]) -> Request:
        return Request([reader_of(layer) for layer in layers], self.options.variant)
