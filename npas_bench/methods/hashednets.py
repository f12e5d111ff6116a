"""`hashednets`: every scalar of a weight looks up its value in one store by a hash (Chen et al. 2015).

The method supports any budget. None of the papers on parameter allocation compares with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from npas_bench.allocation import Reading, RuledAllocation
from npas_bench.generation.engine import Generation
from npas_bench.generation.rules import Hashed
from npas_bench.methods.base import Problem, SharingMethod, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer


class HashedNets(SharingMethod):
    """Gives every scalar of the weights a bucket of one store and a sign, both drawn at random once.

    The hash is a permutation of all scalars modulo the store's size, so buckets are read equally often and none is
    dead.
    """

    name = "hashednets"
    version = 2

    @override
    def allocate(self, problem: Problem) -> HashedAllocation:
        """A store that is as large as the budget allows, and no larger than the weights can read."""
        require(problem.fixed + 1, problem)
        weights = sum(layer.size for layer in problem.layers)
        return HashedAllocation(
            problem.layers, min(problem.available, weights), problem.generator("hash"), problem.available
        )


class HashedAllocation(RuledAllocation):
    """One store of buckets, and the bucket that each scalar of a weight reads.

    Args:
        layers: the network's layers, in network order.
        store: number of buckets, at most as many as the weights have scalars.
        draw: generator of the hash and the signs; the same seed makes the same network again.
        available: number of buckets that the budget would have paid for.
    """

    def __init__(
        self, layers: Sequence[Layer], store: int, draw: torch.Generator, available: int | None = None
    ) -> None:
        super().__init__()
        self._layers = {layer.name: layer for layer in layers}
        self._capped = available is not None and available > store
        self.store = nn.Parameter(torch.empty(store))
        # They are neither parameters nor buffers: the seed brings them back, so no checkpoint needs to hold them.
        self._hashes: dict[str, Tensor] = {}
        if self.store.is_meta:
            return
        total, cpu = sum(layer.size for layer in layers), torch.device("cpu")
        buckets = torch.randperm(total, generator=draw, device=cpu, dtype=torch.int32).remainder_(store)
        negative = torch.randint(2, (total,), generator=draw, device=cpu, dtype=torch.int32)
        self._fill(layers, buckets)
        buckets.mul_(2).add_(negative)
        sizes = [layer.size for layer in layers]
        self._hashes = {layer.name: part for layer, part in zip(layers, torch.split(buckets, sizes), strict=True)}

    @torch.no_grad()
    def _fill(self, layers: Sequence[Layer], buckets: Tensor) -> None:
        """Fill each bucket at the root mean square of its readers' deviations.

        A bucket with one reader then has exactly that reader's deviation, and over many buckets the variance that a
        layer reads is about the mean of the variances that the layers would have at their own scales.
        """
        variance, readers = torch.zeros(self.store.shape[0]), torch.zeros(self.store.shape[0])
        for layer, part in zip(layers, torch.split(buckets, [layer.size for layer in layers]), strict=True):
            count = torch.bincount(part, minlength=self.store.shape[0])
            variance += layer.deviation**2 * count
            readers += count
        self.store.normal_().mul_((variance / readers).sqrt())

    @override
    def generation(self, layer: str) -> Generation:
        """How the layer's weight is looked up in the store."""
        hashed = self._hashes.get(layer)
        if hashed is None:
            hashed = torch.empty(self._layers[layer].size, dtype=torch.int32, device="meta")
        elif hashed.device != self.store.device:
            hashed = self._hashes[layer] = hashed.to(self.store.device)
        return Generation(Hashed(self._layers[layer].shape), self.store, (hashed,))

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """One reading of the whole store for every layer, since each may read any bucket."""
        return tuple(Reading(name, 0, 0, self.store.shape[0], 1, "hashed") for name in self._layers)

    @override
    def remark(self) -> str | None:
        """A remark if there are only as many buckets as the weights have scalars, though the budget allows more."""
        return (
            f"the store is capped at one bucket for each of the {self.store.shape[0]:,} weights"
            if self._capped
            else None
        )
