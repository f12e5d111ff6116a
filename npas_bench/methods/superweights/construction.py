"""Which SuperWeights layers' weights are composed of (Teterwak et al. 2023, 2.1.2).

Layers of one kernel shape, sorted from the smallest: the first SuperWeight has the smallest layer's shape; every
larger layer is the largest smaller one that lies in its corner, extended along its input channels and then
along its output channels by a SuperWeight each. So a weight is a concatenation of whole SuperWeights.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.plan import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.layers import Layer


class Placement(NamedTuple):
    """Where a SuperWeight sits in a layer's weight.

    Attributes:
        superweight: its name.
        row: its first output channel.
        column: its first input channel.
        rows: output channels.
        columns: input channels.
    """

    superweight: str
    row: int
    column: int
    rows: int
    columns: int


class SuperWeight(NamedTuple):
    """A group of trainable values that the layers of a cluster share.

    Attributes:
        name: its own within its cluster.
        shape: (out, in, kernel positions).
        users: names of the layers that hold it, in network order.
        deviation: standard deviation of its values at the start: that of the commonest of its users.
    """

    name: str
    shape: tuple[int, int, int]
    users: tuple[str, ...]
    deviation: float

    def reader(self, rows: int) -> Reader:
        """It as a reader of its cluster's store, with so many rows of coefficients at most."""
        return Reader(self.name, self.shape, self.deviation, rows)


class Composition(NamedTuple):
    """How the layers of one cluster are composed.

    Attributes:
        superweights: of the cluster, smaller layers' first.
        parts: of each layer, by name; together they cover its weight, each scalar once.
    """

    superweights: tuple[SuperWeight, ...]
    parts: dict[str, tuple[Placement, ...]]


def kernel_of(layer: Layer) -> tuple[int, ...]:
    """What layers must have in common to share SuperWeights: their kernel's shape, sides of one left out."""
    return tuple(side for side in layer.shape[2:] if side > 1)


def compose(layers: Sequence[Layer]) -> Composition:
    """Compose a cluster's layers, of one network or of several.

    Args:
        layers: with names of their own.
    """
    classes: dict[tuple[int, ...], list[Layer]] = defaultdict(list)
    for layer in layers:
        classes[kernel_of(layer)].append(layer)
    parts: dict[str, tuple[Placement, ...]] = {}
    shapes: dict[str, tuple[int, int, int]] = {}
    for kernel, members in sorted(classes.items()):
        prefix = "x".join(map(str, kernel)) or "1"
        composed = _compose_shapes({(layer.shape[0], layer.shape[1]) for layer in members}, prefix)
        for layer in members:
            parts[layer.name] = composed[layer.shape[0], layer.shape[1]]
            for part in parts[layer.name]:
                shapes[part.superweight] = (part.rows, part.columns, layer.kernel)
    users = {name: [layer for layer in layers if _holds(parts[layer.name], name)] for name in shapes}
    superweights = tuple(
        SuperWeight(name, shape, tuple(layer.name for layer in users[name]), _deviation(users[name]))
        for name, shape in shapes.items()
    )
    order = {part.superweight: index for index, part in enumerate(p for ps in parts.values() for p in ps)}
    return Composition(tuple(sorted(superweights, key=lambda s: (s.shape[2], order[s.name]))), parts)


def _compose_shapes(shapes: Iterable[tuple[int, int]], prefix: str) -> dict[tuple[int, int], tuple[Placement, ...]]:
    composed: dict[tuple[int, int], tuple[Placement, ...]] = {}
    for out, into in sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape)):
        inside = [shape for shape in composed if shape[0] <= out and shape[1] <= into]
        name = f"{prefix}:{out}x{into}"
        if not inside:
            composed[out, into] = (Placement(name, 0, 0, out, into),)
            continue
        rows, columns = max(inside, key=lambda shape: (shape[0] * shape[1], shape))
        parts = list(composed[rows, columns])
        if into > columns:
            parts.append(Placement(f"{name}:in", 0, columns, rows, into - columns))
        if out > rows:
            parts.append(Placement(f"{name}:out", rows, 0, out - rows, into))
        composed[out, into] = tuple(parts)
    return composed


def _holds(parts: tuple[Placement, ...], superweight: str) -> bool:
    return any(part.superweight == superweight for part in parts)


def _deviation(users: Sequence[Layer]) -> float:
    commonness = Counter(layer.shape for layer in users)
    return max(users, key=lambda layer: commonness[layer.shape]).deviation
