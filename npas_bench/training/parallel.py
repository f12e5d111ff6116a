"""One training in several processes, each with a device of its own: torch's DistributedDataParallel.

A recipe's `parts` say into how many parts a batch is cut; every part is normalised by itself. Processes share the
parts among them, so that one process that computes them in turn gets the same network but for rounding.
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
    """The processes that train one network.

    Attributes:
        rank: of this one.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def share(self, parts: list[T]) -> list[T]:
        """Which of a batch's parts are this process's."""
        each = len(parts) // self.count
        return parts[self.rank * each : (self.rank + 1) * each]

    def tell(self, value: Any) -> Any:
        """What the first process says, in each of them; JSON."""
        if self.count == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def largest(self, value: int) -> int:
        """The largest of all processes' values, in each of them."""
        return max(self.gather(value))

    def gather(self, value: T) -> list[T]:
        """All processes' values, in each of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a value over all processes, in each of them."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value


ALONE = Processes()


class WrappedNetwork:
    """Runs a network as the engine's switches say: compiled, together with other processes.

    Args:
        network: to run; its parameters may be replaced between epochs, `renew` must then be called.
        processes: that train it.
        compiled: whether torch compiles it.
    """

    def __init__(self, network: Network, processes: Processes = ALONE, *, compiled: bool = False) -> None:
        self._network, self._processes, self._compiled = network, processes, compiled
        self.renew()

    def renew(self) -> None:
        """Look at the network's parameters again."""
        module: Any = torch.compile(self._network) if self._compiled else self._network
        if self._processes.count > 1:
            # Norms see each part by itself; their running statistics are put together after each step.
            module = DistributedDataParallel(module, broadcast_buffers=False)
            self._statistics = _Statistics(self._network)
        self.module: nn.Module = module

    def after_step(self, parts: int) -> None:
        """A step is over, in which this process computed so many parts."""
        if self._processes.count > 1:
            self._statistics.put_together(self._processes, parts)

    def collecting(self, *, last: bool) -> AbstractContextManager[object]:
        """Around a part's forward and backward pass: only after a batch's last part do processes add up."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()


class _Statistics:
    """The running statistics of a network's norms, which move by an exponential average with every part.

    A part with statistics s moves them from r to (1 - m) r + m s. Each process begins a step at the same r and moves
    its own by its k parts; what one process gets that computes all parts in turn is (1 - m)^kN r and, of each
    process, what it added, times (1 - m)^k for every process after it.
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
    def put_together(self, processes: Processes, parts: int) -> None:
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
