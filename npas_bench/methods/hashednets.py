"""`hashednets`: every weight looks its value up in one store by a hash (Chen et al. 2015).

None of the papers on parameter allocation compares with it; it supports any budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from npas_bench.allocation import Reading, RuledAllocation
from npas_bench.generation.engine import Generation
from npas_bench.generation.rules import Hashed
from npas_bench.methods.base import Problem, SharingMethod, unsupported_below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.layers import Layer


class HashedNets(SharingMethod):
    """Gives every weight a bucket of one store and a sign, both drawn at random once and for all.

    The hash is a permutation of all weights modulo the store's size, so buckets are read equally often and none
    is dead.
    """

    name = "hashednets"
    version = 2

    def allocate(self, problem: Problem) -> HashedAllocation:
        """As large a store as the budget affords and the weights can read."""
        if problem.available < 1:
            raise unsupported_below(problem.fixed + 1, problem)
        weights = sum(layer.size for layer in problem.layers)
        return HashedAllocation(
            problem.layers, min(problem.available, weights), problem.generator("hash"), problem.available
        )


class HashedAllocation(RuledAllocation):
    """One store of buckets, and which of them each weight reads.

    Args:
        layers: of the network, in its order.
        store: buckets, no more than there are weights.
        draw: draws the hash and the signs; a network is rebuilt from the same seed.
        available: what the budget would have paid for.
    """

    def __init__(
        self, layers: Sequence[Layer], store: int, draw: torch.Generator, available: int | None = None
    ) -> None:
        super().__init__()
        self._layers = {layer.name: layer for layer in layers}
        self._capped = available is not None and available > store
        self.store = nn.Parameter(torch.empty(store))
        # Neither parameters nor buffers: the seed gives them back, so no checkpoint needs to hold them.
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
        """Each bucket at the root mean square of its readers' deviations.

        Over many buckets, the squares that a layer reads then add up to about what all layers would have at
        their own scales, and a bucket with one reader has exactly that reader's.
        """
        variance, readers = torch.zeros(self.store.shape[0]), torch.zeros(self.store.shape[0])
        for layer, part in zip(layers, torch.split(buckets, [layer.size for layer in layers]), strict=True):
            count = torch.bincount(part, minlength=self.store.shape[0])
            variance += layer.deviation**2 * count
            readers += count
        self.store.normal_().mul_((variance / readers).sqrt())

    def generation(self, layer: str) -> Generation:
        """A look-up."""
        hashed = self._hashes.get(layer)
        if hashed is None:
            hashed = torch.empty(self._layers[layer].size, dtype=torch.int32, device="meta")
        elif hashed.device != self.store.device:
            hashed = self._hashes[layer] = hashed.to(self.store.device)
        return Generation(Hashed(self._layers[layer].shape), self.store, (hashed,))

    def sharing(self) -> tuple[Reading, ...]:
        """Every layer may read any bucket."""
        return tuple(Reading(name, 0, 0, self.store.shape[0], 1, "hashed") for name in self._layers)

    def remark(self) -> str | None:
        """That there are as many buckets as weights, if so."""
        return (
            f"the store is capped at one bucket for each of the {self.store.shape[0]:,} weights"
            if self._capped
            else None
        )
