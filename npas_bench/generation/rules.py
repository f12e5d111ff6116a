"""Rules: how one layer's weight is made from a store, and how the weight's gradient goes back into it.

`make` is written in ordinary differentiable operations. It defines the rule, and it is what runs where autograd
Functions cannot (under `torch.func` and `torch.compile`). `pull` computes the derivative by hand: it adds to one
gradient buffer of the store, where autograd would allocate a gradient of the store's size for every layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from npas_bench.layers import Shaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# So many scalars of a few tensors fit into a core's cache.
_CACHED = 1 << 17
# Gradients of a rule's inputs, in their order; None for an input that has no gradient.
Gradients = tuple[Tensor | None, ...]


class Rule(Shaped, ABC):
    """How one weight is made from a flat store and a few small tensors, its inputs.

    Attributes:
        shape: shape of the weight.
    """

    @property
    def computes(self) -> bool:
        """Tell whether the weight needs memory of its own; otherwise it is a view of the store."""
        return True

    @property
    def flops(self) -> int:
        """Floating-point operations of `make`; a multiply-add counts as two, a copy as none."""
        return 0

    @abstractmethod
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The weight, of shape `shape`.

        Args:
            store: the store, 1-d.
            inputs: whatever else the rule needs, such as coefficients or masks.
        """

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The same weight without a graph, for the engine; it calls `make` unless a rule knows a faster way.

        Args:
            store: the store, as for `make`.
            inputs: whatever else the rule needs, as for `make`.
            out: memory that the weight may be written to, 1-d with `size` scalars.
        """
        return self.make(store, *inputs)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Take the weight's gradient back to the store and the inputs.

        This default serves rules that define `make` alone. It makes the weight once more in order to differentiate it.

        Args:
            gradient: gradient of the weight, of shape `shape`, in the store's precision.
            store: the store that `make` was given.
            inputs: the inputs that `make` was given.
            into: gradient of the store so far, 1-d, which is added to in place; None where the store needs none.

        Returns:
            The gradient of each input.
        """
        with torch.enable_grad():
            leaves = [
                store.detach().requires_grad_(into is not None),
                *(i.detach().requires_grad_(i.requires_grad) for i in inputs),
            ]
            weight = self.make(*leaves)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = torch.autograd.grad(weight, wanted, gradient, allow_unused=True)
        if into is not None:
            if found[0] is not None:
                into += found[0]
            found = found[1:]
        rest = iter(found)
        return tuple(next(rest) if i.requires_grad else None for i in inputs)


@dataclass(frozen=True)
class Stored(Rule):
    """The weight is a stretch of the store as it lies there: a view of it, not a copy.

    Attributes:
        shape: shape of the weight.
        start: position of its first scalar in the store.
    """

    shape: tuple[int, ...]
    start: int = 0

    @property
    @override
    def computes(self) -> bool:
        """False, since the weight is a view of the store."""
        return False

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """A view of the store."""
        return store.narrow(0, self.start, math.prod(self.shape)).view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add the gradient to the stretch that the weight is a view of."""
        if into is not None:
            into.narrow(0, self.start, gradient.numel()).add_(gradient.reshape(-1))
        return ()


@dataclass(frozen=True)
class TemplateRule(Rule):
    """A rule that combines templates of the weight's own size, which lie side by side in the store.

    Attributes:
        shape: shape of the weight.
        start: position of the first template's first scalar in the store.
        templates: number of templates, K.
    """

    shape: tuple[int, ...]
    start: int
    templates: int

    def _templates(self, store: Tensor) -> Tensor:
        """A view of the templates, (templates, size)."""
        return store.narrow(0, self.start, self.templates * self.size).view(self.templates, self.size)


@dataclass(frozen=True)
class Averaged(TemplateRule):
    """The weight is the mean of the templates (Plummer et al. 2022, `avg`)."""

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: K - 1 additions and a division for every scalar."""
        return self.templates * self.size

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The mean of the templates, mean_k T_k."""
        return self._templates(store).mean(0).view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The mean of the templates, written to where it belongs."""
        return torch.mean(self._templates(store), 0, out=out).view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add a K-th of the weight's gradient to the gradient of every template."""
        if into is not None:
            self._templates(into).add_(gradient.reshape(-1), alpha=1 / self.templates)
        return ()


@dataclass(frozen=True)
class Mixed(TemplateRule):
    """The weight is a weighted sum of the templates, sum_k alpha_k T_k (Savarese & Maire 2019, eq. 1).

    The sum is computed as one matrix product. The rule's only input is alpha, 1-d with K scalars.
    """

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: K multiply-adds for every scalar."""
        return 2 * self.templates * self.size

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The product of alpha and the templates."""
        return torch.mv(self._templates(store).t(), inputs[0]).view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The product of alpha and the templates, written to where it belongs."""
        return torch.mv(self._templates(store).t(), inputs[0], out=out).view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add the outer product of alpha and the gradient g to the templates' gradient; alpha's gradient is T g."""
        flat = gradient.reshape(-1)
        if into is not None:
            self._templates(into).addr_(inputs[0], flat)
        return (torch.mv(self._templates(store), flat),)


@dataclass(frozen=True)
class Hashed(Rule):
    """One hash gives every scalar its value in the store, and another its sign (Chen et al. 2015, eqs. 3, 7).

    The rule's only input holds both hashes as one whole number h for each scalar of the weight, 1-d: h // 2 is the
    bucket of the store, and the sign is minus where h is odd. It is not trained.

    Attributes:
        shape: shape of the weight.
    """

    shape: tuple[int, ...]

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: one for each scalar, its sign."""
        return self.size

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The signed values that all scalars look up."""
        bucket, sign = self._split(inputs[0])
        return (store.index_select(0, bucket) * sign).view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The signed values that all scalars look up, written to where they belong."""
        out = store.new_empty(self.size) if out is None else out
        for begin, end in self._pieces(store):
            bucket, sign = self._split(inputs[0][begin:end])
            torch.index_select(store, 0, bucket, out=out[begin:end]).mul_(sign)
        return out.view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add each scalar's gradient, with its sign, to the bucket that it was looked up in."""
        if into is not None:
            flat = gradient.reshape(-1)
            for begin, end in self._pieces(store):
                bucket, sign = self._split(inputs[0][begin:end])
                into.index_add_(0, bucket, flat[begin:end] * sign)
        return (None,)

    @staticmethod
    def _split(hashed: Tensor) -> tuple[Tensor, Tensor]:
        """The buckets, and the signs as -1 and 1."""
        return hashed >> 1, 1 - ((hashed & 1) << 1)

    def _pieces(self, store: Tensor) -> Iterator[tuple[int, int]]:
        """Stretches of the weight, as begin and end; on a CPU so short that intermediate values stay in the cache."""
        step = _CACHED if store.device.type == "cpu" else self.size
        return ((begin, min(begin + step, self.size)) for begin in range(0, self.size, step))
