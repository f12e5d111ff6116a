"""What a store of a given size costs and how layers read it, worked out on sizes alone.

The size of the store decides how many templates and masks there are, and those pay from the same budget.
Between two sizes at which some layer gains a template or loses a tile the cost of everything beside the
store is constant; `largest_store` walks down these segments.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.mixing import RoundRobin
from npas_bench.generation.upsampling import Image, interpolation_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.layers import Layer
    from npas_bench.methods.ssn.options import SSNOptions


# Share of what is available that may stay unused without a word.
_NOTABLE = 0.005


class Share(NamedTuple):
    """How one layer reads the store.

    Attributes:
        layer: the layer.
        start: first scalar it reads.
        templates: how many templates it mixes; 1 where it is upsampled.
        size: scalars of a template, or of what is upsampled.
        tiles: how many tiles it is made of; 1 where the store has enough scalars.
        image: what it is interpolated from, with `inter` upsampling.
    """

    layer: Layer
    start: int
    templates: int
    size: int
    tiles: int = 1
    image: Image | None = None

    @property
    def length(self) -> int:
        """Scalars of the store that the layer reads."""
        return self.templates * self.size


class Store(NamedTuple):
    """A store's size, and why it leaves some of the budget unused (None: it leaves nothing to speak of)."""

    size: int
    remark: str | None


def template_count(size: int, store: int, options: SSNOptions) -> int:
    """Templates that a layer of `size` scalars mixes from a store of at least as many.

    Round robin uses one template per query, and the cursor hands out the next one each time: appendix
    B.2's index k mod K without scalars that no query reaches.
    """
    return 1 if options.combine == "rr" else max(1, min(store // size, options.templates))


def shares(layers: Sequence[Layer], store: int, options: SSNOptions) -> tuple[Share, ...]:
    """How each layer reads a store of `store` scalars, templates handed out round robin in network order."""
    turn = RoundRobin(store)
    read = []
    for layer in layers:
        if layer.size <= store:
            templates = template_count(layer.size, store, options)
            read.append(Share(layer, turn.take(templates * layer.size), templates, layer.size))
        elif options.upsample == "inter":
            image = interpolation_source(layer, store)
            read.append(Share(layer, turn.take(image.size), 1, image.size, image=image))
        else:
            read.append(Share(layer, 0, 1, store, tiles=-(-layer.size // store)))
    return tuple(read)


def mask_count(sizes: Iterable[int], store: int, options: SSNOptions) -> int:
    """Masks needed by layers of `sizes` scalars: one for each tile after the first, shared or not."""
    if options.upsample != "mask":
        return 0
    further = [-(-size // store) - 1 for size in sizes if size > store]
    return sum(further) if options.mask_scope == "layer" else max(further, default=0)


def overhead(layers: Sequence[Layer], store: int, options: SSNOptions) -> int:
    """Trainable scalars beside a store of `store` scalars: coefficients, embeddings, maps, masks."""
    return _Costs(layers, options).overhead(store)


def largest_store(layers: Sequence[Layer], available: int, options: SSNOptions) -> Store | None:
    """The largest store that `available` scalars pay for with all that goes with it; None if none does.

    A store larger than what the layers together read would hold dead parameters: it is capped there.
    """
    costs = _Costs(layers, options)
    limit, remark = available, None
    while True:
        size = costs.largest(available, limit)
        if size is None:
            return None
        readable = sum(share.length for share in shares(layers, size, options))
        if readable >= size:
            unused = available - size - costs.overhead(size)
            if remark is None and unused > _NOTABLE * available:
                remark = (
                    f"{unused:,} parameters are unused: any larger store needs more coefficients or masks than that"
                )
            return Store(size, remark)
        limit = readable
        remark = f"the store is capped at the {readable:,} scalars that the layers read"


def smallest_cost(layers: Sequence[Layer], options: SSNOptions) -> int:
    """The fewest scalars that an allocation of this variant can do with, store and overhead together."""
    return _Costs(layers, options).smallest()


class _Costs:
    def __init__(self, layers: Sequence[Layer], options: SSNOptions) -> None:
        self._options = options
        self._sizes = Counter(layer.size for layer in layers)
        # An interpolated image keeps the layer's kernel, so no store can be smaller than the largest one.
        inter = options.upsample == "inter"
        self._floor = max(layer.kernel for layer in layers) if inter else 1

    def masks(self, store: int) -> int:
        each_layer = self._options.mask_scope == "layer"
        sizes = self._sizes.elements() if each_layer else self._sizes.keys()
        return self._options.mask_window * mask_count(sizes, store, self._options)

    def overhead(self, store: int) -> int:
        mixed = Counter[int]()
        for size, layers in self._sizes.items():
            templates = template_count(size, store, self._options) if size <= store else 1
            if templates > 1:
                mixed[templates] += layers
        total = self.masks(store)
        if self._options.combine == "wavg":
            total += sum(templates * layers for templates, layers in mixed.items())
        elif self._options.combine == "emb":
            total += self._options.embedding * mixed.total()
            total += sum((self._options.embedding + 1) * templates for templates in mixed)
        return total

    def segment_start(self, store: int) -> int:
        """The smallest store with the same templates and tiles, and so the same overhead, as this one."""
        return max(
            size * template_count(size, store, self._options) if size <= store else -(-size // -(-size // store))
            for size in self._sizes
        )

    def largest(self, available: int, limit: int) -> int | None:
        store = limit
        while store >= self._floor:
            start = max(self._floor, self.segment_start(store))
            size = min(store, available - self.overhead(store))
            if size >= start:
                return size
            store = start - 1
        return None

    def smallest(self) -> int:
        store = max(self._sizes)
        best = store + self.overhead(store)
        while store >= self._floor:
            start = max(self._floor, self.segment_start(store))
            best = min(best, start + self.overhead(start))
            if self.masks(start) >= best:
                break  # a smaller store needs only more masks
            store = start - 1
        return best
