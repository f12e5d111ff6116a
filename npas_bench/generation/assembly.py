"""Weights put together from parts that other rules make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.rules import Gradients, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


class WeightBlock(NamedTuple):
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
    blocks: tuple[WeightBlock, ...]

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

    def _each(self, inputs: Sequence[Tensor]) -> Iterator[tuple[WeightBlock, Sequence[Tensor]]]:
        used = 0
        for block in self.blocks:
            yield block, inputs[used : used + block.inputs]
            used += block.inputs

    @staticmethod
    def _part(weight: Tensor, block: WeightBlock) -> Tensor:
        rows, columns = block.rule.shape[:2]
        return weight[block.row : block.row + rows, block.column : block.column + columns]
