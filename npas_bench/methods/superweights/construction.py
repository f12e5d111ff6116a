"""The SuperWeights that layers' weights are composed of (Teterwak et al. 2023, section 2.1.2).

The layers of one kernel shape are sorted by size. The first SuperWeight has the shape of the smallest layer. In the
corner of every larger layer lies the largest smaller layer that fits in; it is extended along the input channels and
then along the output channels, by one SuperWeight each. So every weight consists of whole SuperWeights.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.plan import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.layers import Layer


class Placement(NamedTuple):
    """Where a SuperWeight is in a layer's weight.

    Attributes:
        superweight: name of the SuperWeight.
        row: its first output channel.
        column: its first input channel.
        rows: number of its output channels.
        columns: number of its input channels.
    """

    superweight: str
    row: int
    column: int
    rows: int
    columns: int


class SuperWeight(NamedTuple):
    """A group of trainable values that layers of a cluster share.

    Attributes:
        name: a name that is unique within the cluster.
        shape: (out, in, kernel positions).
        users: names of the layers that hold it, in network order.
        deviation: standard deviation of its values at the start, which is that of its most frequent kind of user.
    """

    name: str
    shape: tuple[int, int, int]
    users: tuple[str, ...]
    deviation: float

    def reader(self, rows: int) -> Reader:
        """The SuperWeight as a reader of its cluster's store, with at most `rows` rows of coefficients."""
        return Reader(self.name, self.shape, self.deviation, rows)


class Composition(NamedTuple):
    """How the layers of one cluster are composed.

    Attributes:
        superweights: the cluster's SuperWeights, those of smaller layers first.
        parts: for each layer, by name, where its SuperWeights are; they cover each scalar of its weight once.
    """

    superweights: tuple[SuperWeight, ...]
    parts: dict[str, tuple[Placement, ...]]


def kernel_of(layer: Layer) -> tuple[int, ...]:
    """What layers must have in common to share SuperWeights: the shape of their kernel, without sides of length one."""
    return tuple(side for side in layer.shape[2:] if side > 1)


def compose(layers: Sequence[Layer]) -> Composition:
    """How a cluster's layers are composed.

    Args:
        layers: the layers, of one network or of several, with different names.
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
