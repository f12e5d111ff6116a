"""Upsampling: a layer's weight from a store with fewer scalars than it needs (Plummer et al. 2022, 3.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from npas_bench.layers import Layer


def repeat_tiles(store: Tensor, size: int) -> Tensor:
    """Tiles of the store one behind the other, cut off at `size` scalars."""
    tiles = -(-size // store.shape[0])
    return store.repeat(tiles)[:size]


def masked_tiles(store: Tensor, size: int, masks: Tensor) -> Tensor:
    """Tiles of the store, each after the first times a mask that repeats over its windows.

    Args:
        store: 1-d, P scalars.
        size: scalars of the weight, more than P.
        masks: (tiles - 1 or more, window); mask t belongs to tile t + 1.

    Returns:
        1-d of `size`.
    """
    length = store.shape[0]
    further, window = -(-size // length) - 1, masks.shape[1]
    rows = functional.pad(store, (0, -length % window)).view(1, -1, window)
    tiles = (rows * masks[:further, None, :]).view(further, -1)[:, :length]
    return torch.cat((store, tiles.reshape(-1)))[:size]


class Image(NamedTuple):
    """A smaller form of a layer's weight: (out, in) channels at the layer's own kernel."""

    rows: int
    columns: int
    kernel: int

    @property
    def size(self) -> int:
        """Scalars of the image."""
        return self.rows * self.columns * self.kernel


def interpolation_source(layer: Layer, available: int) -> Image:
    """The largest image of at most `available` scalars that a layer's weight is interpolated from.

    Both channel axes shrink by a factor of 0.95, 0.90, ... until the image fits; below 0.05 the factor halves.
    The kernel is not shrunk, so at least `layer.kernel` scalars must be available.
    """
    out, into = layer.shape[0], layer.shape[1]
    twentieths = 19.0
    while True:
        factor = twentieths / 20
        image = Image(max(1, round(factor * out)), max(1, round(factor * into)), layer.kernel)
        if image.size <= available:
            return image
        if image.rows == image.columns == 1:
            raise ValueError(f"{layer.name} cannot be interpolated from {available} scalars")
        twentieths = twentieths - 1 if twentieths > 1 else twentieths / 2


def interpolate(values: Tensor, image: Image, layer: Layer) -> Tensor:
    """Stretch an image bilinearly, half-pixel centres, to a layer's weight.

    Args:
        values: 1-d of `image.size`.
        image: how to view `values`.
        layer: whose weight is made; (out, in, *kernel) is seen as an image of out x (in kernel).

    Returns:
        1-d of `layer.size`.
    """
    source = values.view(1, 1, image.rows, image.columns * image.kernel)
    target = (layer.shape[0], layer.shape[1] * layer.kernel)
    return functional.interpolate(source, size=target, mode="bilinear", align_corners=False).reshape(-1)
