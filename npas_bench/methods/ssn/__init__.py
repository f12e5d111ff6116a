"""`ssn`: Shapeshifter Networks with one parameter group (Plummer et al. 2022)."""

from __future__ import annotations

from npas_bench.methods.base import Problem, SharingMethod, unsupported_below
from npas_bench.methods.ssn.allocation import SSNAllocation
from npas_bench.methods.ssn.options import SSNOptions
from npas_bench.methods.ssn.plan import largest_store, smallest_cost

__all__ = ["SSN", "SSNAllocation", "SSNOptions"]


class SSN(SharingMethod):
    """Generates every layer's weight from one flat store, mixing templates or upsampling as sizes demand."""

    name = "ssn"
    Options = SSNOptions
    options: SSNOptions

    def allocate(self, problem: Problem) -> SSNAllocation:
        """The allocation with the largest store whose overhead the budget also pays for."""
        found = largest_store(problem.layers, problem.available, self.options)
        if found is None:
            raise unsupported_below(problem.fixed + smallest_cost(problem.layers, self.options), problem)
        return SSNAllocation(problem.layers, found.size, self.options, remark=found.remark)
