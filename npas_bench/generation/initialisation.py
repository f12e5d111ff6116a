"""Initial values of stores: at the scale of the weights that are read from them.

A store of unit variance with a gain per layer gives every layer its variance too, but its large entries
make the effective learning rate under normalisation tiny; so a store is kept at the weights' own scale.
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
    """A stretch of a store that is read."""

    reader: Reader
    start: int
    length: int


@torch.no_grad()
def fill_store(store: Tensor, stretches: Sequence[Stretch]) -> None:
    """Fill a flat store with normal values, stretch by stretch at the deviation of what reads it.

    Where stretches overlap, the commonest shape has the last word: most layers then find their own scale.

    Args:
        store: 1-d, filled in place.
        stretches: what is read.
    """
    commonness = Counter(stretch.reader.shape for stretch in stretches)
    scale = torch.zeros_like(store)
    for stretch in sorted(stretches, key=lambda s: commonness[s.reader.shape]):
        scale[stretch.start : stretch.start + stretch.length] = stretch.reader.deviation
    store.normal_().mul_(scale)
