"""Initial values of stores, at the scale of the weights that are read from them.

A store of unit variance with one gain per layer would also give every layer its variance. But the large values of such
a store make the effective learning rate tiny where normalisation follows, so a store has the scale of the weights.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from npas_bench.generation.plan import Reader


class Stretch(NamedTuple):
    """A stretch of a store that a reader reads.

    Attributes:
        reader: the layer, or part of one, that reads it.
        start: position of its first scalar in the store.
        length: number of its scalars.
    """

    reader: Reader
    start: int
    length: int


@torch.no_grad()
def fill_store(store: Tensor, stretches: Sequence[Stretch]) -> None:
    """Fill a flat store with normal values; each stretch gets the standard deviation of the weight that reads it.

    Where stretches overlap, the deviation of the most frequent weight shape counts, so that most layers start at their
    own scale.

    Args:
        store: the store, 1-d; it is filled in place.
        stretches: the stretches that are read.
    """
    commonness = Counter(stretch.reader.shape for stretch in stretches)
    scale = torch.zeros_like(store)
    for stretch in sorted(stretches, key=lambda s: commonness[s.reader.shape]):
        scale[stretch.start : stretch.start + stretch.length] = stretch.reader.deviation
    store.normal_().mul_(scale)
