"""One training in several processes, each with a device of its own, by torch's DistributedDataParallel.

A recipe's `parts` say into how many parts a batch is cut, and every part is normalised by itself. The processes share
the parts out among themselves, so that a single process that computes all parts in turn gets the same network except
for rounding.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from npas_bench.network import running_statistics

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from npas_bench.network import Network

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes:
        rank: the number of this process, from 0.
        count: the number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, parts: list[T]) -> list[T]:
        """The parts of a batch that this process computes."""
        each = len(parts) // self.count
        return parts[self.rank * each : (self.rank + 1) * each]

    def tell(self, value: Any) -> Any:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def largest(self, value: int) -> int:
        """The largest of the processes' values, in every process."""
        return max(self.gather(value))

    def gather(self, value: T) -> list[T]:
        """The values of all processes in the order of their ranks, in every process."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, which replaces it in every process."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value


ALONE = Processes()


class WrappedNetwork:
    """A network as the engine's switches want it run: compiled, or together with other processes.

    Args:
        network: the network; when its parameters are replaced between epochs, `renew` must be called.
        processes: the processes that train the network.
        compiled: whether torch compiles the network.

    Attributes:
        module: what a loss calls in place of the network.
    """

    def __init__(self, network: Network, processes: Processes = ALONE, *, compiled: bool = False) -> None:
        self._network, self._processes, self._compiled = network, processes, compiled
        self.renew()

    def renew(self) -> None:
        """Wrap the network anew, after some of its parameters were replaced."""
        module: Any = torch.compile(self._network) if self._compiled else self._network
        if self._processes.count > 1:
            # Norms see each part by itself, and their running statistics are combined after each step.
            module = DistributedDataParallel(module, broadcast_buffers=False)
            self._statistics = _Statistics(self._network)
        self.module: nn.Module = module

    def after_step(self, parts: int) -> None:
        """Combine the norms' running statistics after a step in which this process computed so many parts."""
        if self._processes.count > 1:
            self._statistics.combine(self._processes, parts)

    def collecting(self, *, last: bool) -> AbstractContextManager[object]:
        """A context for a part's forward and backward pass; processes add up gradients after the last part only."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()


class _Statistics:
    """The running statistics of a network's norms, which every part of a batch changes by an exponential average.

    A part with statistics s moves them from r to (1 - m) r + m s. Each of N processes begins a step at the same r and
    moves its own copy by its k parts. A single process that computes all parts in turn ends at (1 - m)^kN r, plus what
    each process added, times (1 - m)^k for every process that comes after it.
    """

    def __init__(self, network: Network) -> None:
        found = [(buffer, m) for buffer, m in running_statistics(network) if buffer.is_floating_point()]
        self._buffers = [buffer for buffer, _ in found]
        self._counters = [buffer for buffer, _ in running_statistics(network) if not buffer.is_floating_point()]
        sizes = [torch.full_like(buffer.flatten(), 1 - momentum) for buffer, momentum in found]
        self._keep = torch.cat(sizes) if sizes else torch.empty(0)
        self._before = self._now()

    def _now(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self._buffers]) if self._buffers else torch.empty(0)

    @torch.no_grad()
    def combine(self, processes: Processes, parts: int) -> None:
        if not self._buffers:
            return
        kept = self._keep**parts
        added = self._now() - kept * self._before
        added *= kept ** (processes.count - 1 - processes.rank)
        self._before = kept**processes.count * self._before + processes.sum(added)
        pieces = torch.split(self._before, [buffer.numel() for buffer in self._buffers])
        for buffer, piece in zip(self._buffers, pieces, strict=True):
            buffer.copy_(piece.view_as(buffer))
        for counter in self._counters:
            counter += parts * (processes.count - 1)
