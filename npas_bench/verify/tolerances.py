"""How far two runs of a cell may differ: not at all where they compute the same, by a stated share elsewhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where roundings differ, a training takes another course, and its metrics differ like those of two seeds.
ELSEWHERE = 0.1
# The packages whose versions decide what is computed; npas-bench itself has versions of tasks and methods.
_COMPUTING = ("torch", "numpy", "scikit-learn")


class Circumstances(NamedTuple):
    """What the last bits of a result depend on besides its cell and its data.

    Attributes:
        device_class: `cpu` or `cuda`.
        host: system, machine, instruction set and number of cores, as `host_class` writes them.
        versions: of Python and of the packages that compute.
    """

    device_class: str
    host: str
    versions: Mapping[str, str]


class Tolerance(NamedTuple):
    """How far a metric may differ from what it was.

    Attributes:
        relative: the largest difference, as a share of the larger of the two values; 0 means bit for bit.
        reason: why it is so large, as a clause.
    """

    relative: float
    reason: str

    def allows(self, then: float, now: float) -> bool:
        """Tell whether two values of a metric count as the same."""
        if self.relative == 0:
            return then == now
        return math.isclose(then, now, rel_tol=self.relative)


def usual_tolerance(then: Circumstances, now: Circumstances) -> Tolerance:
    """Bit for bit on a CPU of the same instruction set with the same packages, otherwise a share of the value."""
    if then.device_class != "cpu":
        return Tolerance(ELSEWHERE, "a GPU adds numbers up in no fixed order")
    if _instructions(then.host) != _instructions(now.host):
        return Tolerance(ELSEWHERE, f"the run was made on {then.host or 'an unknown host'}, and this is {now.host}")
    for name in _COMPUTING:
        before, here = then.versions.get(name), now.versions.get(name)
        if before != here:
            return Tolerance(ELSEWHERE, f"the run was made with {name} {before or 'unknown'}, and {here} is installed")
    return Tolerance(0.0, "the run was made on a CPU of this instruction set with the packages that are installed")


def chosen_tolerance(relative: float) -> Tolerance:
    """The tolerance that a user asks for.

    Raises:
        NpasBenchError: if it is no share.
    """
    if not 0 <= relative < 1:
        raise NpasBenchError(f"--tolerance {relative:g}: a share from 0, which means bit for bit, to below 1 is wanted")
    return Tolerance(relative, "it was asked for")


def _instructions(host: str) -> list[str]:
    """System, machine and instruction set of a host; the number of its cores changes no result."""
    return host.split()[:3]
