"""What a parameter group's store of a given size costs and how it is read, worked out from sizes alone.

The size of the store decides how many templates and masks there are, and these are paid for from the same budget. The
cost of everything beside the store changes only at sizes at which a reader gains a template or loses a tile, and is
constant in between; `largest_store` walks down these segments.
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
        combine: how a weight is made where the store has enough scalars: `wavg`, a weighted sum of templates with free
            coefficients; `emb`, one with coefficients that a linear map makes from an embedding; `avg`, the mean;
            `rr`, one template for each reader.
        upsample: how a weight is made where the store has too few: `mask`, tiles times learned masks; `inter`,
            bilinear interpolation; `repeat`, bare tiles.
        templates: the largest number of templates that are mixed, K.
        embedding: number of scalars of an embedding, E.
        mask_window: number of scalars of a mask.
        mask_scope: whether all readers share their masks (`group`) or each has its own (`layer`).
        tiles: how upsampled readers differ at the start. `aligned`: not at all; the tiles of all begin with the store's
            first scalar, and tiles after the first are faint (the SSN authors' code). `scattered`: each reader's tiles
            begin where those of the reader before it ended, and masks are random signs.
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
        name: a name that is unique within the group.
        shape: shape of the weight that is made for it, (out, in, *kernel).
        deviation: standard deviation of that weight at the start.
        rows: the largest number of rows of coefficients that it ever has, one for each user that mixes it differently.
    """

    name: str
    shape: tuple[int, ...]
    deviation: float
    rows: int = 1


def reader_of(layer: Layer) -> Reader:
    """The reader that stands for a whole layer."""
    return Reader(layer.name, layer.shape, layer.deviation)


class RoundRobin:
    """Hands out stretches of a flat store in turn, so that all of it is read about equally often.

    A stretch that would run over the store's end is moved back so that it ends there, and the next one starts at 0. So
    every stretch is contiguous, and all of the store has been handed out once the lengths add up to its size.

    Args:
        size: number of scalars in the store.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._cursor = 0

    def take(self, length: int) -> int:
        """Position of the next stretch of `length` scalars, at most as many as the store has."""
        start = min(self._cursor, self._size - length)
        self._cursor = (start + length) % self._size
        return start

    def turn(self, length: int) -> int:
        """Position of the next `length` scalars, which may run over the store's end and go on at its beginning."""
        start = self._cursor
        self._cursor = (start + length) % self._size
        return start


class Image(NamedTuple):
    """A smaller form of a layer's weight, with fewer channels and the layer's own kernel.

    Attributes:
        rows: output channels.
        columns: input channels.
        kernel: positions of the kernel.
    """

    rows: int
    columns: int
    kernel: int

    @property
    def size(self) -> int:
        """Number of scalars of the image."""
        return self.rows * self.columns * self.kernel


def interpolation_source(reader: Reader, available: int) -> Image:
    """The largest image of at most `available` scalars that a reader's weight can be interpolated from.

    Both channel axes shrink by a factor of 0.95, 0.90, ... until the image fits; below 0.05 the factor is halved.
    The kernel keeps its size, so at least `reader.kernel` scalars must be available.

    Raises:
        ValueError: if fewer are available.
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
        reader: the reader.
        start: position of the first scalar that it reads. An upsampled reader reads all of the store; this is where
            its tiles begin.
        templates: number of templates that it mixes; 1 where it is upsampled.
        size: number of scalars of a template, or of what is upsampled.
        tiles: number of tiles that its weight is made of; 1 where the store has enough scalars.
        image: the image that its weight is interpolated from, with `inter` upsampling.
    """

    reader: Reader
    start: int
    templates: int
    size: int
    tiles: int = 1
    image: Image | None = None

    @property
    def first(self) -> int:
        """Position of the first scalar of the stretch that the reader reads."""
        return 0 if self.tiles > 1 else self.start

    @property
    def length(self) -> int:
        """Number of scalars of the store that the reader reads."""
        return self.templates * self.size


def template_count(size: int, store: int, variant: Variant) -> int:
    """Number of templates that a reader of `size` scalars mixes from a store of at least as many.

    With round robin every reader uses one template, and the next one is handed out each time. This is appendix B.2's
    index k mod K, without scalars that nothing reads.
    """
    return 1 if variant.combine == "rr" else max(1, min(store // size, variant.templates))


def shares(readers: Sequence[Reader], store: int, variant: Variant) -> tuple[StoreShare, ...]:
    """How each reader reads a store of `store` scalars; templates are handed out in turn, in the readers' order."""
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
    """Number of masks for readers of `sizes` scalars: one for each tile after the first, shared or not."""
    if variant.upsample != "mask":
        return 0
    further = [-(-size // store) - 1 for size in sizes if size > store]
    return sum(further) if variant.mask_scope == "layer" else max(further, default=0)


def dead_masks(readers: Sequence[Reader], store: int, variant: Variant) -> int:
    """Number of scalars of masks that no tile is multiplied by, since the tile has fewer scalars than a mask.

    The last tile of a weight may be narrower than a mask, and all tiles are if the store has fewer scalars than a mask.
    """
    if variant.upsample != "mask":
        return 0
    masked = [reader.size for reader in readers if reader.size > store]
    if variant.mask_scope == "group":
        # Of the weights that share masks, no other has a wider tile than the largest one in any place.
        masked = [max(masked)] if masked else []
    return sum(_dead_masks_of(size, store, variant.mask_window) for size in masked)


def _dead_masks_of(size: int, store: int, window: int) -> int:
    """Number of dead scalars of the masks of one weight: of its whole tiles after the first, and of its last tile."""
    further = -(-size // store) - 1
    return (further - 1) * max(0, window - store) + max(0, window - (size - further * store))


def overhead(readers: Sequence[Reader], store: int, variant: Variant) -> int:
    """Trainable scalars that come on top of a store of `store` scalars: coefficients, embeddings, maps and masks."""
    return _Costs(readers, variant).overhead(store)


def largest_store(readers: Sequence[Reader], available: int, variant: Variant) -> int | None:
    """The largest store, in scalars, that `available` scalars pay for with all that goes with it; None without one.

    A store is no larger than what the readers read of it, since the rest would be dead parameters.
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
    """The fewest scalars that a group of this variant can do with, including everything beside the store."""
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
