"""Accounting of what fits where: CPU threads and memory of nodes, and memory of GPUs. It knows nothing of Ray.

A GPU is shared by cells whose memory is known, from an earlier run of their kind or from a measurement since the first
of them began. A cell whose needs are not known has a GPU to itself until they have been measured in its first epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.runner.device import device_class

if TYPE_CHECKING:
    from npas_bench.runner.work import Work

# What a process needs of a GPU for the driver's context and libraries' workspaces, which no allocator counts.
CONTEXT_BYTES = 600 * 1024**2
# A margin over what was measured, for fragments and for batches that are larger than those seen so far.
SLACK = 1.15
# The limit is low because cells that share a GPU also share its time.
MOST_ON_A_GPU = 8


class Needs(NamedTuple):
    """What a cell needs of a slot.

    Attributes:
        threads: number of CPU threads.
        memory: bytes at its peak, of the GPU's memory on a GPU and else of the host's; None if that is not known.
        alone: whether no other cell may run beside it.
    """

    threads: int
    memory: int | None = None
    alone: bool = False

    @staticmethod
    def of(work: Work, memory: int | None, *, alone: bool = False) -> Needs:
        """The needs of `work` if it takes `memory` bytes at its peak."""
        return Needs(work.engine.processes * work.cell.recipe.threads, memory, alone)


@dataclass
class Slot:
    """A place for workers side by side: a node, a GPU of a node, or several GPUs for cells of several processes.

    Attributes:
        name: a name that no other slot has.
        node: id of its node.
        threads: number of its CPU threads.
        gpus: number of its GPUs; 0 for a node as such.
        given_up: whether workers were started here in vain as often as they may be.
        cpus: how many of the node's declared CPUs are reserved with the GPUs; 0 if there are fewer CPUs than GPUs.
        memory: bytes of the GPU's memory, or of the node's; None if that is not known.
        taken: the needs of what is running there, by the identities of the cells.
        trouble: why nothing can be run there; None if all is well.
        again: when the slot is tried again in spite of trouble, by a clock that never jumps; None for never.
    """

    name: str
    node: str
    threads: int
    gpus: int = 0
    memory: int | None = None
    taken: dict[str, Needs] = field(default_factory=dict)
    trouble: str | None = None
    again: float | None = None
    given_up: bool = False
    cpus: int = 0

    def fits(self, needs: Needs) -> bool:
        """Tell whether a cell can be run here now."""
        if self.trouble is not None:
            return False
        if not self.taken:
            # An empty slot takes any cell, since more room will not come.
            return True
        others = list(self.taken.values())
        if needs.alone or any(other.alone for other in others):
            return False
        if sum(other.threads for other in others) + needs.threads > self.threads:
            return False
        return self._on_gpu(needs, others) if self.gpus else self._on_node(needs, others)

    def _on_gpu(self, needs: Needs, others: list[Needs]) -> bool:
        # Cells of several processes share no GPUs.
        if self.gpus > 1 or len(others) >= MOST_ON_A_GPU or self.memory is None:
            return False
        total = 0.0
        for one in (*others, needs):
            if one.memory is None:
                return False
            total += SLACK * one.memory + CONTEXT_BYTES
        return total <= self.memory

    def _on_node(self, needs: Needs, others: list[Needs]) -> bool:
        if self.memory is None:
            return True
        return sum(SLACK * (one.memory or 0) for one in (*others, needs)) <= self.memory

    def spares(self, idle: int) -> bool:
        """Tell whether its memory suffices for `idle` idle workers beside what is running."""
        if idle <= 0:
            return True
        if self.memory is None or any(one.alone or one.memory is None for one in self.taken.values()):
            return False
        taken = sum(SLACK * (one.memory or 0) + CONTEXT_BYTES for one in self.taken.values())
        return taken + idle * CONTEXT_BYTES <= self.memory

    def share(self, key: str) -> float | None:
        """The share of the GPU's memory that a cell takes, which is 1 if its needs are not known; None on a CPU."""
        if not self.gpus:
            return None
        needs = self.taken[key]
        if self.memory is None or needs.memory is None or needs.alone:
            return 1.0
        return min(1.0, (SLACK * needs.memory + CONTEXT_BYTES) / self.memory)


def slots_of(resources: dict[str, dict[str, float]], device: str, processes: int) -> list[Slot]:
    """The slots of a cluster for cells on a device.

    Args:
        resources: what each node declares to Ray, by the node's id.
        device: the device of the cells.
        processes: number of processes that train a cell together, each on a GPU of its own.
    """
    found = []
    for node, has in resources.items():
        threads = int(has.get("CPU", 0))
        if device_class(device) == "cpu":
            if threads:
                found.append(Slot(node, node, threads, memory=int(has["memory"]) if has.get("memory") else None))
            continue
        count = int(has.get("GPU", 0)) // processes
        memory = int(has["gpu_memory"]) if has.get("gpu_memory") else None
        found += [
            Slot(
                f"{node}/{number}", node, max(1, threads // count), gpus=processes, memory=memory, cpus=threads // count
            )
            for number in range(count)
        ]
    return found
