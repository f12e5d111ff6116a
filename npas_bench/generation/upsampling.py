"""Upsampling: rules for a weight that has more scalars than its store (Plummer et al. 2022, 3.1.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from npas_bench.generation.rules import Gradients, Rule
from npas_bench.torch_internals import shrink_bilinearly, stretch_bilinearly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npas_bench.generation.plan import Image


# Up to so many tiles are added one by one; more are added at once, which needs a temporary tensor of their size.
_FEW_TILES = 4


@dataclass(frozen=True)
class Repeated(Rule):
    """The weight is the whole store, repeated and cut off at the weight's size (Plummer et al. 2022, table 10).

    Attributes:
        shape: shape of the weight, which has more scalars than the store.
    """

    shape: tuple[int, ...]

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The store, repeated and cut off."""
        size = math.prod(self.shape)
        return store.repeat(-(-size // store.shape[0]))[:size].view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add up the gradients of all tiles."""
        if into is not None:
            flat, length = gradient.reshape(-1), store.shape[0]
            whole = flat.shape[0] // length
            into += flat[: whole * length].view(whole, length).sum(0)
            rest = flat[whole * length :]
            into[: rest.shape[0]] += rest
        return ()


@dataclass(frozen=True)
class Masked(Rule):
    """The weight is the store, repeated; each tile after the first is multiplied by a mask (3.1.2).

    A mask covers one window of scalars and is repeated over all windows of its tile. The rule's only input holds the
    masks, (tiles - 1 or more, window); mask t belongs to tile t + 1.

    Attributes:
        shape: shape of the weight, which has more scalars than the store.
        length: number of scalars of the store.
        start: position in the store that every tile begins at; after the store's end a tile goes on at its beginning.
    """

    shape: tuple[int, ...]
    length: int
    start: int = 0

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: one multiplication for every scalar after the first tile."""
        return math.prod(self.shape) - self.length

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The store, followed by the masked tiles."""
        store = self._turned(store, -self.start)
        size = math.prod(self.shape)
        further, window = -(-size // self.length) - 1, inputs[0].shape[1]
        rows = functional.pad(store, (0, -self.length % window)).view(1, -1, window)
        tiles = (rows * inputs[0][:further, None, :]).view(further, -1)[:, : self.length]
        return torch.cat((store, tiles.reshape(-1)))[:size].view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The store and the masked tiles, each written once to where it belongs."""
        store = self._turned(store, -self.start)
        weight = store.new_empty(self.size) if out is None else out
        weight[: self.length] = store
        for piece in self._pieces(weight, inputs[0]):
            torch.mul(piece.of(store), piece.masks[:, None], out=piece.tiles)
        return weight.view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add the masked gradient to the store's; a mask's gradient is a sum over its windows."""
        if self.start and into is not None:
            gathered = torch.zeros_like(into)
            found = self._pull(gradient, self._turned(store, -self.start), inputs, gathered)
            into += self._turned(gathered, self.start)
            return found
        return self._pull(gradient, self._turned(store, -self.start), inputs, into)

    def _turned(self, store: Tensor, by: int) -> Tensor:
        return store.roll(by) if by else store

    def _pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        flat, window = gradient.reshape(-1), inputs[0].shape[1]
        found = torch.zeros_like(inputs[0])
        if into is not None:
            into += flat[: self.length]
        for piece in self._pieces(flat, inputs[0]):
            sums = (piece.tiles * piece.of(store)).sum(1)
            count, width = sums.shape
            windows = functional.pad(sums, (0, -width % window)).view(count, -1, window)
            found[piece.first : piece.first + count] += windows.sum(1)
            if into is None:
                continue
            if count <= _FEW_TILES:
                for tile, mask in zip(piece.tiles, piece.masks, strict=True):
                    piece.of(into).addcmul_(tile, mask)
            else:
                piece.of(into).add_((piece.tiles * piece.masks[:, None]).sum(0))
        return (found,)

    def _pieces(self, flat: Tensor, masks: Tensor) -> Iterator[_Piece]:
        """The tiles after the first, in pieces that are computed at once.

        The rows of a piece are many windows wide, since work on rows of nine scalars would take several times as long.
        """
        size, length, window = flat.shape[0], self.length, masks.shape[1]
        wide = masks.repeat(1, max(1, min(64, length // window)))
        whole = size // length - 1
        for first, count, columns in ((0, whole, length), (whole, 1, size - (whole + 1) * length)):
            if not count or not columns:
                continue
            start = (first + 1) * length
            tiles = flat[start : start + count * columns].view(count, columns)
            even = columns // wide.shape[1] * wide.shape[1]
            for low, high, width in ((0, even, wide.shape[1]), (even, columns, columns - even)):
                if high > low:
                    rows = torch.unflatten(tiles[:, low:high], 1, (-1, width))
                    yield _Piece(first, low, high, rows, wide[first : first + count, :width])


class _Piece(NamedTuple):
    """What several tiles have between two columns.

    Attributes:
        first: number of the first tile, counted from the one after the unmasked tile.
        low: first column.
        high: column after the last.
        tiles: the tiles' scalars, (count, rows, width).
        masks: the masks of one row of each tile, (count, width).
    """

    first: int
    low: int
    high: int
    tiles: Tensor
    masks: Tensor

    def of(self, store: Tensor) -> Tensor:
        """The scalars of the store that the piece is made from, (rows, width)."""
        return store[self.low : self.high].view(self.tiles.shape[1:])


@dataclass(frozen=True)
class Interpolated(Rule):
    """The weight is a part of the store, seen as an image and interpolated bilinearly to the weight's size (3.1.2).

    A weight of shape (out, in, *kernel) is seen as an image of out x (in kernel) pixels with half-pixel centres.

    Attributes:
        shape: shape of the weight.
        start: position of the image's first scalar in the store.
        image: size of the image.
    """

    shape: tuple[int, ...]
    start: int
    image: Image

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of `make`: four multiply-adds for every scalar."""
        return 8 * math.prod(self.shape)

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The interpolated image."""
        source = store.narrow(0, self.start, self.image.size).view(self._source)
        stretched = functional.interpolate(source, size=self._target, mode="bilinear", align_corners=False)
        return stretched.view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The interpolated image, written to where it belongs."""
        if out is None:
            return self.make(store)
        source = store.narrow(0, self.start, self.image.size).view(self._source)
        stretch_bilinearly(source, out.view(1, 1, *self._target))
        return out.view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add the gradient of the interpolation to the store's."""
        if into is not None:
            shrunk = shrink_bilinearly(gradient.reshape(1, 1, *self._target), self._source)
            into.narrow(0, self.start, self.image.size).add_(shrunk.view(-1))
        return ()

    @property
    def _source(self) -> list[int]:
        return [1, 1, self.image.rows, self.image.columns * self.image.kernel]

    @property
    def _target(self) -> list[int]:
        return [self.shape[0], math.prod(self.shape[1:])]
