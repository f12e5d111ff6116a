"""The sizes of a hypernetwork that use a budget, worked out from the layers' shapes alone."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.layers import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.layers import Layer

# The paper's embedding and hidden size, and its unit kernel's channels (Ha et al. 2016, 3.1; appendix A.1).
PAPER_SIZE = 64
PAPER_UNIT = 16
# Where embeddings would be smaller than this, the layers that the paper leaves plain are generated too.
_POOR = 4
# The hidden size alone grows up to this many times the embedding, or the paper's size. The embedding bounds the rank of
# what the maps can make, so a larger hidden size would only make generating dearer. In a wide network a few scalars
# that are left over would otherwise let it grow to tens of thousands, and one layer's intermediate values to gigabytes.
_WIDEST = 2


# Scalars of maps, embeddings and plain weights together. A tensor of twice as many could not be addressed any more.
MOST = 2**60


class Sizes(NamedTuple):
    """The sizes that describe a hypernetwork.

    Attributes:
        embedding: number of scalars of a unit kernel's embedding, N_z.
        hidden: number of scalars between the two maps, for each input channel of a unit kernel, d.
        unit: number of input and output channels of a unit kernel, where the layers have as many.
    """

    embedding: int
    hidden: int
    unit: int


class KernelClass(NamedTuple):
    """The layers with one number of kernel positions, which share two maps.

    Attributes:
        kernel: number of positions of the kernel.
        out: output channels of a unit kernel.
        into: input channels of a unit kernel.
        layers: the layers, in network order.
    """

    kernel: int
    out: int
    into: int
    layers: tuple[Layer, ...]

    def grid(self, layer: Layer) -> tuple[int, int]:
        """Number of unit kernels along a layer's output and input channels; the last ones are cropped."""
        return -(-layer.shape[0] // self.out), -(-layer.shape[1] // self.into)

    @property
    def units(self) -> int:
        """Number of unit kernels of all layers."""
        return sum(math.prod(self.grid(layer)) for layer in self.layers)

    def maps(self, sizes: Sizes) -> int:
        """Number of scalars of the two maps, with their biases."""
        first = self.into * sizes.hidden * (sizes.embedding + 1)
        return first + self.out * self.kernel * (sizes.hidden + 1)


class Plan(NamedTuple):
    """A hypernetwork for one network.

    Attributes:
        sizes: sizes of embeddings, maps and unit kernels.
        layers: the layers that it generates; the others stay plain.
    """

    sizes: Sizes
    layers: tuple[Layer, ...]


class Limits(NamedTuple):
    """The sizes that the options give; None where a size is to be chosen.

    Attributes:
        embedding: `Sizes.embedding`.
        hidden: `Sizes.hidden`.
        unit: `Sizes.unit`.
    """

    embedding: int | None = None
    hidden: int | None = None
    unit: int | None = None


def classes(layers: Sequence[Layer], unit: int) -> tuple[KernelClass, ...]:
    """The layers by their number of kernel positions; unit kernels are no larger than the largest layer can use."""
    found: dict[int, list[Layer]] = defaultdict(list)
    for layer in layers:
        found[layer.kernel].append(layer)
    return tuple(
        KernelClass(
            kernel,
            min(unit, max(layer.shape[0] for layer in members)),
            min(unit, max(layer.shape[1] for layer in members)),
            tuple(members),
        )
        for kernel, members in sorted(found.items())
    )


def cost(layers: Sequence[Layer], sizes: Sizes) -> int:
    """Number of trainable scalars that generate `layers`: maps and embeddings."""
    return sum(c.maps(sizes) + sizes.embedding * c.units for c in classes(layers, sizes.unit))


def inner_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that are generated in the paper: all but the stem, the classifier and 1x1 shortcuts."""
    kernels = any(layer.kernel > 1 for layer in layers)
    return tuple(
        layer for layer in layers[1:-1] if not (kernels and layer.kernel == 1 and layer.kind is Kind.CONVOLUTION)
    )


def choose(layers: Sequence[Layer], available: int, limits: Limits) -> Plan | None:
    """The plan that uses `available` scalars, or `MOST` if there are more, best; None if no plan fits.

    Args:
        layers: the network's layers, in network order.
        available: scalars for maps, embeddings and the weights of plain layers.
        limits: the sizes that are given.
    """
    available = min(available, MOST)
    poor = None
    for generated in _ranges(layers):
        rest = available - sum(layer.size for layer in layers) + sum(layer.size for layer in generated)
        found = [_largest(generated, rest, unit, limits) for unit in _units(generated, limits)]
        fitting = [sizes for sizes in found if sizes is not None]
        if not fitting:
            continue
        best = min(fitting, key=lambda sizes: _distance_from_paper(sizes, limits))
        if min(best.embedding, best.hidden) >= _POOR or limits.embedding or limits.hidden:
            return Plan(best, generated)
        if poor is None or _distance_from_paper(best, limits) < _distance_from_paper(poor.sizes, limits):
            poor = Plan(best, generated)
    if poor is not None:
        return poor
    # No unit kernel whose size is a power of two fits, but the cheapest one may.
    least, cheapest = _cheapest(layers, limits)
    if least > available:
        return None
    rest = available - sum(layer.size for layer in layers) + sum(layer.size for layer in cheapest.layers)
    sizes = _largest(cheapest.layers, rest, cheapest.sizes.unit, limits)
    return None if sizes is None else Plan(sizes, cheapest.layers)


def smallest(layers: Sequence[Layer], limits: Limits) -> int:
    """The fewest scalars that maps, embeddings and the weights of plain layers can come to."""
    return _cheapest(layers, limits)[0]


def _cheapest(layers: Sequence[Layer], limits: Limits) -> tuple[int, Plan]:
    """The fewest scalars over all sizes of unit kernels, and the plan that needs only these.

    The maps grow with the unit. The number of unit kernels changes only at units that are a layer's channels divided by
    a whole number, so no other unit can be the cheapest.
    """
    weights = sum(layer.size for layer in layers)
    found = []
    for generated in _ranges(layers):
        channels = {count for layer in generated for count in layer.shape[:2]}
        units = {-(-count // parts) for count in channels for parts in range(1, count + 1)}
        plain = weights - sum(layer.size for layer in generated)
        for unit in [limits.unit] if limits.unit is not None else sorted(units):
            plan = Plan(Sizes(limits.embedding or 1, limits.hidden or 1, unit), generated)
            found.append((plain + cost(generated, plan.sizes), plan))
    return min(found, key=lambda candidate: candidate[0])


def _ranges(layers: Sequence[Layer]) -> list[tuple[Layer, ...]]:
    """The layers that may be generated: those of the paper, then all layers."""
    inner = inner_layers(layers)
    return [inner, tuple(layers)] if inner else [tuple(layers)]


def _units(layers: Sequence[Layer], limits: Limits) -> list[int]:
    if limits.unit is not None:
        return [limits.unit]
    widest = max(max(layer.shape[:2]) for layer in layers)
    return [2**power for power in range(widest.bit_length())]


def _distance_from_paper(sizes: Sizes, limits: Limits) -> tuple[float, float]:
    """How far a plan's sizes are from the paper's, in octaves: the smaller of the chosen sizes, then the unit."""
    chosen = [n for n, given in ((sizes.embedding, limits.embedding), (sizes.hidden, limits.hidden)) if given is None]
    size = abs(math.log2(min(chosen, default=PAPER_SIZE) / PAPER_SIZE))
    return round(size, 9), abs(math.log2(sizes.unit / PAPER_UNIT))


def widest_hidden(embedding: int) -> int:
    """The largest size that the hidden size alone is grown to."""
    return _WIDEST * max(embedding, PAPER_SIZE)


def _largest(layers: Sequence[Layer], available: int, unit: int, limits: Limits) -> Sizes | None:
    """The largest sizes that fit: embedding and hidden size grow together, then the embedding, then the hidden size."""
    start = Sizes(limits.embedding or 1, limits.hidden or 1, unit)
    if cost(layers, start) > available:
        return None

    def fits(sizes: Sizes) -> bool:
        return cost(layers, sizes) <= available

    sizes = start
    if limits.embedding is None and limits.hidden is None:
        both = _bisect(lambda n: fits(Sizes(n, n, unit)))
        sizes = Sizes(both, both, unit)
    if limits.embedding is None:
        sizes = sizes._replace(embedding=_bisect(lambda n: fits(sizes._replace(embedding=n))))
    if limits.hidden is None:
        most = widest_hidden(sizes.embedding)
        sizes = sizes._replace(hidden=_bisect(lambda n: n <= most and fits(sizes._replace(hidden=n))))
    return sizes


def _bisect(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, given that 1 fits, and that all numbers below one that fits do too."""
    high = 2
    while fits(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
