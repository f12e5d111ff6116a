"""What a parameter group's store of a given size costs and how it is read, worked out on sizes alone.

The size of the store decides how many templates and masks there are, and those pay from the same budget.
Between two sizes at which some reader gains a template or loses a tile the cost of everything beside the
store is constant; `largest_store` walks down these segments.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from npas_bench.layers import Shaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npas_bench.layers import Layer


@dataclass(frozen=True)
class Variant:
    """How a group's store becomes weights (Plummer et al. 2022, 3.1).

    Attributes:
        combine: where the store has enough scalars: `wavg`, a weighted sum with free coefficients; `emb`, with
            coefficients that a linear map makes of an embedding; `avg`, the mean; `rr`, one template per reader.
        upsample: where it has too few: `mask`, tiles times learned masks; `inter`, bilinear interpolation;
            `repeat`, bare tiles.
        templates: K, most templates that are mixed.
        embedding: E, scalars of an embedding.
        mask_window: scalars of a mask.
        mask_scope: whether all readers share their masks or each has its own.
        tiles: how readers with too few scalars are told apart at the start. `aligned`: not at all, the tiles of all
            begin with the store's first scalar, and those after the first are faint (the SSN authors' code).
            `scattered`: each reader's begin where the one's before ended, and masks are random signs.
    """

    combine: Literal["wavg", "emb", "avg", "rr"] = "wavg"
    upsample: Literal["mask", "inter", "repeat"] = "mask"
    templates: int = 8
    embedding: int = 24
    mask_window: int = 9
    mask_scope: Literal["group", "layer"] = "group"
    tiles: Literal["aligned", "scattered"] = "aligned"


@dataclass(frozen=True)
class Reader(Shaped):
    """What reads a group's store: a layer, or a part of one.

    Attributes:
        name: its own within the group.
        shape: (out, in, *kernel) of the weight that it makes.
        deviation: standard deviation of that weight at the start.
        rows: most rows of coefficients that it ever has, one for each of its users that mix it differently.
    """

    name: str
    shape: tuple[int, ...]
    deviation: float
    rows: int = 1


def reader_of(layer: Layer) -> Reader:
    """A layer as a reader."""
    return Reader(layer.name, layer.shape, layer.deviation)


class RoundRobin:
    """Hands out stretches of a flat store in turn, so that all of it is read about equally often.

    A stretch that would straddle the store's end is moved back to end there, and the next one starts at 0:
    every stretch is contiguous, and once the lengths add up to the store's size all of it has been handed out.

    Args:
        size: scalars in the store.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._cursor = 0

    def take(self, length: int) -> int:
        """First scalar of the next stretch of `length` scalars (at most the store's size)."""
        start = min(self._cursor, self._size - length)
        self._cursor = (start + length) % self._size
        return start

    def turn(self, length: int) -> int:
        """First scalar of the next `length` scalars, which may run over the store's end and around it."""
        start = self._cursor
        self._cursor = (start + length) % self._size
        return start


class Image(NamedTuple):
    """A smaller form of a layer's weight: (out, in) channels at the layer's own kernel."""

    rows: int
    columns: int
    kernel: int

    @property
    def size(self) -> int:
        """Scalars of the image."""
        return self.rows * self.columns * self.kernel


def interpolation_source(reader: Reader, available: int) -> Image:
    """The largest image of at most `available` scalars that a reader's weight is interpolated from.

    Both channel axes shrink by a factor of 0.95, 0.90, ... until the image fits; below 0.05 the factor halves.
    The kernel is not shrunk, so at least `reader.kernel` scalars must be available.
    """
    out, into = reader.shape[0], reader.shape[1]
    twentieths = 19.0
    while True:
        factor = twentieths / 20
        image = Image(max(1, round(factor * out)), max(1, round(factor * into)), reader.kernel)
        if image.size <= available:
            return image
        if image.rows == image.columns == 1:
            raise ValueError(f"{reader.name} cannot be interpolated from {available} scalars")
        twentieths = twentieths - 1 if twentieths > 1 else twentieths / 2


class StoreShare(NamedTuple):
    """How one reader reads its group's store.

    Attributes:
        reader: what reads.
        start: first scalar it reads; where it is upsampled, the one its tiles begin with: it reads them all.
        templates: how many templates it mixes; 1 where it is upsampled.
        size: scalars of a template, or of what is upsampled.
        tiles: how many tiles it is made of; 1 where the store has enough scalars.
        image: what it is interpolated from, with `inter` upsampling.
    """

    reader: Reader
    start: int
    templates: int
    size: int
    tiles: int = 1
    image: Image | None = None

    @property
    def first(self) -> int:
        """The first scalar of the stretch that it reads."""
        return 0 if self.tiles > 1 else self.start

    @property
    def length(self) -> int:
        """Scalars of the store that it reads."""
        return self.templates * self.size


def template_count(size: int, store: int, variant: Variant) -> int:
    """Templates that a reader of `size` scalars mixes from a store of at least as many.

    Round robin uses one template per query, and the cursor hands out the next one each time: appendix
    B.2's index k mod K without scalars that no query reaches.
    """
    return 1 if variant.combine == "rr" else max(1, min(store // size, variant.templates))


def shares(readers: Sequence[Reader], store: int, variant: Variant) -> tuple[StoreShare, ...]:
    """How each reader reads a store of `store` scalars, templates handed out round robin in the given order."""
    turn = RoundRobin(store)
    read = []
    for reader in readers:
        if reader.size <= store:
            templates = template_count(reader.size, store, variant)
            read.append(StoreShare(reader, turn.take(templates * reader.size), templates, reader.size))
        elif variant.upsample == "inter":
            image = interpolation_source(reader, store)
            read.append(StoreShare(reader, turn.take(image.size), 1, image.size, image=image))
        else:
            start = turn.turn(reader.size) if variant.tiles == "scattered" else 0
            read.append(StoreShare(reader, start, 1, store, tiles=-(-reader.size // store)))
    return tuple(read)


def mask_count(sizes: Iterable[int], store: int, variant: Variant) -> int:
    """Masks needed by readers of `sizes` scalars: one for each tile after the first, shared or not."""
    if variant.upsample != "mask":
        return 0
    further = [-(-size // store) - 1 for size in sizes if size > store]
    return sum(further) if variant.mask_scope == "layer" else max(further, default=0)


def overhead(readers: Sequence[Reader], store: int, variant: Variant) -> int:
    """Trainable scalars beside a store of `store` scalars: coefficients, embeddings, maps, masks."""
    return _Costs(readers, variant).overhead(store)


def largest_store(readers: Sequence[Reader], available: int, variant: Variant) -> int | None:
    """Scalars of the largest store that `available` scalars pay for with all that goes with it; None if none does.

    A store larger than what is read of it would hold dead parameters: it is capped there.
    """
    costs = _Costs(readers, variant)
    limit = available
    while True:
        size = costs.largest(available, limit)
        if size is None:
            return None
        readable = sum(share.length for share in shares(readers, size, variant))
        if readable >= size:
            return size
        limit = readable


def smallest_cost(readers: Sequence[Reader], variant: Variant) -> int:
    """The fewest scalars that a group of this variant can do with, store and overhead together."""
    return _Costs(readers, variant).smallest()


class _Costs:
    def __init__(self, readers: Sequence[Reader], variant: Variant) -> None:
        self._variant = variant
        self._sizes = Counter(reader.size for reader in readers)
        self._rows = Counter[int]()
        for reader in readers:
            self._rows[reader.size] += reader.rows
        # An interpolated image keeps the reader's kernel, so no store can be smaller than the largest one.
        inter = variant.upsample == "inter"
        self._floor = max(reader.kernel for reader in readers) if inter else 1

    def masks(self, store: int) -> int:
        each_layer = self._variant.mask_scope == "layer"
        sizes = self._sizes.elements() if each_layer else self._sizes.keys()
        return self._variant.mask_window * mask_count(sizes, store, self._variant)

    def overhead(self, store: int) -> int:
        mixed = Counter[int]()
        for size, rows in self._rows.items():
            templates = template_count(size, store, self._variant) if size <= store else 1
            if templates > 1:
                mixed[templates] += rows
        total = self.masks(store)
        if self._variant.combine == "wavg":
            total += sum(templates * rows for templates, rows in mixed.items())
        elif self._variant.combine == "emb":
            total += self._variant.embedding * mixed.total()
            total += sum((self._variant.embedding + 1) * templates for templates in mixed)
        return total

    def segment_start(self, store: int) -> int:
        """The smallest store with the same templates and tiles, and so the same overhead, as this one."""
        return max(
            size * template_count(size, store, self._variant) if size <= store else -(-size // -(-size // store))
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
