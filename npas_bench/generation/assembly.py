"""Weights that are put together from blocks, each made by a rule of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from npas_bench.generation.rules import Gradients, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


class WeightBlock(NamedTuple):
    """A block of an assembled weight.

    Attributes:
        rule: the rule that makes the block, of shape (rows, columns, kernel positions).
        row: first output channel of the block.
        column: first input channel of the block.
        inputs: how many of the weight's inputs the block's rule takes.
    """

    rule: Rule
    row: int
    column: int
    inputs: int


@dataclass(frozen=True)
class Assembled(Rule):
    """The weight is put together from blocks that other rules make (Teterwak et al. 2023, 2.1.2).

    The inputs of all blocks follow one another, in the order of the blocks.

    Attributes:
        shape: shape of the weight, (out, in, *kernel).
        blocks: the blocks, which together cover each scalar of the weight once.
    """

    shape: tuple[int, ...]
    blocks: tuple[WeightBlock, ...]

    @property
    @override
    def computes(self) -> bool:
        """Tell whether the weight needs memory of its own; a single block that is a view of the store needs none."""
        return len(self.blocks) > 1 or self.blocks[0].rule.computes

    @property
    @override
    def flops(self) -> int:
        """Floating-point operations of all blocks' rules; putting the blocks together is free."""
        return sum(block.rule.flops for block in self.blocks)

    @override
    def make(self, store: Tensor, *inputs: Tensor) -> Tensor:
        """The blocks, made and copied to where they belong."""
        if len(self.blocks) == 1:
            return self.blocks[0].rule.make(store, *inputs).view(self.shape)
        weight = store.new_empty(*self.shape[:2], math.prod(self.shape[2:]))
        for block, own in self._each(inputs):
            self._part(weight, block).copy_(block.rule.make(store, *own))
        return weight.view(self.shape)

    @override
    def build(self, store: Tensor, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        """The blocks, built without a graph and copied to where they belong."""
        if len(self.blocks) == 1:
            return self.blocks[0].rule.build(store, inputs, out).view(self.shape)
        weight = store.new_empty(self.size) if out is None else out
        whole = weight.view(*self.shape[:2], -1)
        for block, own in self._each(inputs):
            self._part(whole, block).copy_(block.rule.build(store, own))
        return weight.view(self.shape)

    @override
    def pull(self, gradient: Tensor, store: Tensor, inputs: Sequence[Tensor], into: Tensor | None) -> Gradients:
        """Hand every block's part of the gradient to the block's rule."""
        whole = gradient.reshape(*self.shape[:2], -1)
        found: Gradients = ()
        for block, own in self._each(inputs):
            found += block.rule.pull(self._part(whole, block), store, own, into)
        return found

    def _each(self, inputs: Sequence[Tensor]) -> Iterator[tuple[WeightBlock, Sequence[Tensor]]]:
        used = 0
        for block in self.blocks:
            yield block, inputs[used : used + block.inputs]
            used += block.inputs

    @staticmethod
    def _part(weight: Tensor, block: WeightBlock) -> Tensor:
        rows, columns = block.rule.shape[:2]
        return weight[block.row : block.row + rows, block.column : block.column + columns]
