"""Rules: how one layer's weight is made from a store, and how its gradient goes back into it.

`make` is written in ordinary differentiable operations; it is the definition, and what runs where autograd
Functions cannot (`torch.func`, `torch.compile`). `pull` is the same derivative by hand: it adds into one
gradient buffer of the store, where autograd would make a gradient of the store's size for every layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npas_bench.generation.upsampling import Image

# So many tiles are added one by one, more of them in one go at the cost of a temporary of their size.
_FEW_TILES = 4

# Gradients of a rule's inputs, in their order; None for one that takes none.
Gradients = tuple[Tensor | None, ...]


class Rule(ABC):
    """How one weight is made from a flat store and a few small tensors, its inputs.

    Attributes:
        shape: of the weight.
    """

    shape: tuple[int, ...]

    @property
    def computes(self) -> bool:
        """Whether the weight takes memory of its own; otherwise it is a view of the store."""
        return True

    @property
    def size(self) -> int:
        """Scalars of the weight."""
        return math.prod(self.shape)

    @property
    def flops(self) -> int:
        """Floating-point operations of `make`, two for a multiply-add; copies are free."""
        return 0

    @abstractmethod
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The weight, of `shape`.

        Args:
            store: 1-d.
            inputs: coefficients, masks: whatever the rule takes.
        """

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The same weight without a graph, for the engine: `make` unless a rule knows a faster way.

        Args:
            store: as for `make`.
            inputs: as for `make`.
            out: 1-d of `size`; where the weight may be written.
        """
        return self.make(store, *inputs)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Take the weight's gradient back to the store and the inputs.

        A rule that defines only `make` gets this one, which makes the weight again to differentiate it.

        Args:
            gradient: of the weight, of `shape`, in the store's precision.
            store: as `make` had it.
            inputs: as `make` had them.
            into: the store's gradient so far, 1-d, added to in place; None where the store needs none.

        Returns:
            A gradient for each input.
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
    """The weight is a stretch of the store as it lies there: a view, no copy.

    Attributes:
        shape: of the weight.
        start: its first scalar in the store.
    """

    shape: tuple[int, ...]
    start: int = 0

    @property
    def computes(self) -> bool:
        """It is a view."""
        return False

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """A view of the store."""
        return store.narrow(0, self.start, math.prod(self.shape)).view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Add it where it was read."""
        if into is not None:
            into.narrow(0, self.start, gradient.numel()).add_(gradient.reshape(-1))
        return ()


@dataclass(frozen=True)
class Averaged(Rule):
    """The mean of templates that lie side by side (Plummer et al. 2022, `avg`).

    Attributes:
        shape: of the weight.
        start: first scalar of the first template.
        templates: K.
    """

    shape: tuple[int, ...]
    start: int
    templates: int

    @property
    def flops(self) -> int:
        """K - 1 additions and a division for every scalar."""
        return self.templates * math.prod(self.shape)

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """mean_k T_k."""
        return _templates(store, self).mean(0).view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The mean, written where it belongs."""
        return torch.mean(_templates(store, self), 0, out=out).view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """A K-th of it to every template."""
        if into is not None:
            _templates(into, self).add_(gradient.reshape(-1), alpha=1 / self.templates)
        return ()


@dataclass(frozen=True)
class Mixed(Rule):
    """sum_k alpha_k T_k as one matrix product (Savarese & Maire 2019, eq. 1); its input is alpha, 1-d of K.

    Attributes:
        shape: of the weight.
        start: first scalar of the first template; the templates lie side by side.
        templates: K.
    """

    shape: tuple[int, ...]
    start: int
    templates: int

    @property
    def flops(self) -> int:
        """K multiply-adds for every scalar."""
        return 2 * self.templates * math.prod(self.shape)

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """Alpha times the templates."""
        return torch.mv(_templates(store, self).t(), inputs[0]).view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The product, written where it belongs."""
        return torch.mv(_templates(store, self).t(), inputs[0], out=out).view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Alpha g' for the templates, T g for alpha."""
        flat = gradient.reshape(-1)
        if into is not None:
            _templates(into, self).addr_(inputs[0], flat)
        return (torch.mv(_templates(store, self), flat),)


def _templates(store: Tensor, rule: Averaged | Mixed) -> Tensor:
    size = math.prod(rule.shape)
    return store.narrow(0, rule.start, rule.templates * size).view(rule.templates, size)


@dataclass(frozen=True)
class Repeated(Rule):
    """Tiles of the whole store one behind the other, cut off at the weight's size (Plummer et al. 2022, table 10).

    Attributes:
        shape: of the weight, which has more scalars than the store.
    """

    shape: tuple[int, ...]

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """Tiles of the store."""
        size = math.prod(self.shape)
        return store.repeat(-(-size // store.shape[0]))[:size].view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """The sum over the tiles."""
        if into is not None:
            flat, length = gradient.reshape(-1), store.shape[0]
            whole = flat.shape[0] // length
            into += flat[: whole * length].view(whole, length).sum(0)
            rest = flat[whole * length :]
            into[: rest.shape[0]] += rest
        return ()


@dataclass(frozen=True)
class Masked(Rule):
    """Tiles of the store, each after the first times a mask that repeats over its windows (3.1.2).

    Its input are the masks, (tiles - 1 or more, window); mask t belongs to tile t + 1.

    Attributes:
        shape: of the weight, which has more scalars than the store.
        length: scalars of the store.
    """

    shape: tuple[int, ...]
    length: int

    @property
    def flops(self) -> int:
        """One multiplication for every scalar after the first tile."""
        return math.prod(self.shape) - self.length

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The store, then masked tiles."""
        size = math.prod(self.shape)
        further, window = -(-size // self.length) - 1, inputs[0].shape[1]
        rows = functional.pad(store, (0, -self.length % window)).view(1, -1, window)
        tiles = (rows * inputs[0][:further, None, :]).view(further, -1)[:, : self.length]
        return torch.cat((store, tiles.reshape(-1)))[:size].view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Each tile written once, where it belongs."""
        weight = store.new_empty(self.size) if out is None else out
        weight[: self.length] = store
        for piece in self._pieces(weight, inputs[0]):
            torch.mul(piece.of(store), piece.masks[:, None], out=piece.tiles)
        return weight.view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """To the store through the masks, to the masks by sums over their windows."""
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
        """The tiles after the first in pieces that are worked on as a whole.

        Rows are many windows wide: work on rows of nine scalars would take several times as long.
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
    """Tiles between two columns: (count, rows, width), and the masks of one row, (count, width)."""

    first: int
    low: int
    high: int
    tiles: Tensor
    masks: Tensor

    def of(self, store: Tensor) -> Tensor:
        """What of the store lies under the piece, (rows, width)."""
        return store[self.low : self.high].view(self.tiles.shape[1:])


@dataclass(frozen=True)
class Interpolated(Rule):
    """An image of the store stretched bilinearly, half-pixel centres, to the weight (3.1.2).

    (out, in, *kernel) is seen as an image of out x (in kernel).

    Attributes:
        shape: of the weight.
        start: first scalar of the image in the store.
        image: how to view it.
    """

    shape: tuple[int, ...]
    start: int
    image: Image

    @property
    def flops(self) -> int:
        """Four multiply-adds for every scalar."""
        return 8 * math.prod(self.shape)

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The image, stretched."""
        source = store.narrow(0, self.start, self.image.size).view(self._source)
        stretched = functional.interpolate(source, size=self._target, mode="bilinear", align_corners=False)
        return stretched.view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The image, stretched where it belongs."""
        if out is None:
            return self.make(store)
        source = store.narrow(0, self.start, self.image.size).view(self._source)
        torch.ops.aten.upsample_bilinear2d.out(source, self._target, False, out=out.view(1, 1, *self._target))
        return out.view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Shrunk the same way."""
        if into is not None:
            shrunk = torch.ops.aten.upsample_bilinear2d_backward(
                gradient.reshape(1, 1, *self._target), self._target, self._source, False
            )
            into.narrow(0, self.start, self.image.size).add_(shrunk.view(-1))
        return ()

    @property
    def _source(self) -> list[int]:
        return [1, 1, self.image.rows, self.image.columns * self.image.kernel]

    @property
    def _target(self) -> list[int]:
        return [self.shape[0], math.prod(self.shape[1:])]


@dataclass(frozen=True)
class Hashed(Rule):
    """Every scalar looks its value up in the store by a hash, and its sign by another (Chen et al. 2015, eqs. 3, 7).

    Its input is the hash: whole numbers below twice the store's length P, (scalars of the weight); h below P means
    +store[h], h from P up means -store[h - P]. It is not trained.

    Attributes:
        shape: of the weight.
    """

    shape: tuple[int, ...]

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """Look every scalar up."""
        return torch.cat((store, -store)).index_select(0, inputs[0]).view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Look every scalar up and write it where it belongs."""
        return torch.index_select(torch.cat((store, -store)), 0, inputs[0], out=out).view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Added where each scalar was looked up."""
        if into is not None:
            length = store.shape[0]
            both = store.new_zeros(2 * length).index_add_(0, inputs[0], gradient.reshape(-1))
            into.add_(both[:length]).sub_(both[length:])
        return (None,)


class Block(NamedTuple):
    """A part of an assembled weight.

    Attributes:
        rule: makes the block, (rows, columns, kernel positions).
        row: its first output channel.
        column: its first input channel.
        inputs: how many of the inputs its rule takes.
    """

    rule: Rule
    row: int
    column: int
    inputs: int


@dataclass(frozen=True)
class Assembled(Rule):
    """A weight put together from blocks that other rules make (Teterwak et al. 2023, 2.1.2).

    Its inputs are the blocks' inputs, one block's after the other's.

    Attributes:
        shape: (out, in, *kernel) of the weight.
        blocks: together they cover the weight, each scalar once.
    """

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def computes(self) -> bool:
        """Unless a single block is a view."""
        return len(self.blocks) > 1 or self.blocks[0].rule.computes

    @property
    def flops(self) -> int:
        """Those of the blocks; putting them together is free."""
        return sum(block.rule.flops for block in self.blocks)

    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """Make the blocks and put them where they belong."""
        if len(self.blocks) == 1:
            return self.blocks[0].rule.make(store, *inputs).view(self.shape)
        weight = store.new_empty(*self.shape[:2], math.prod(self.shape[2:]))
        for block, own in self._each(inputs):
            self._part(weight, block).copy_(block.rule.make(store, *own))
        return weight.view(self.shape)

    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """Build the blocks and put them where they belong."""
        if len(self.blocks) == 1:
            return self.blocks[0].rule.build(store, inputs, out).view(self.shape)
        weight = store.new_empty(self.size) if out is None else out
        whole = weight.view(*self.shape[:2], -1)
        for block, own in self._each(inputs):
            self._part(whole, block).copy_(block.rule.build(store, own))
        return weight.view(self.shape)

    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Each block's part to the block."""
        whole = gradient.reshape(*self.shape[:2], -1)
        found: Gradients = ()
        for block, own in self._each(inputs):
            found += block.rule.pull(self._part(whole, block), store, own, into)
        return found

    def _each(self, inputs: Sequence[Tensor]) -> Iterator[tuple[Block, Sequence[Tensor]]]:
        used = 0
        for block in self.blocks:
            yield block, inputs[used : used + block.inputs]
            used += block.inputs

    @staticmethod
    def _part(weight: Tensor, block: Block) -> Tensor:
        rows, columns = block.rule.shape[:2]
        return weight[block.row : block.row + rows, block.column : block.column + columns]
