"""Random changes of a whole batch of images at once, on the batch's device.

All functions take normalised pixels (n, channels, height, width) and draw from a CPU generator, so that the same seed
changes the same images in the same way on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def flip(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image from left to right with probability 1/2."""
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirrored.to(pixels.device).view(-1, 1, 1, 1), pixels.flip(3), pixels)


def crop(pixels: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad each image with `padding` zeros on every side, and cut a random window of its own size out of it."""
    n, _, height, width = pixels.shape
    down, right = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator).to(pixels.device)
    rows = down + torch.arange(height, device=pixels.device)
    columns = right + torch.arange(width, device=pixels.device)
    padded = functional.pad(pixels, (padding,) * 4)
    image = torch.arange(n, device=pixels.device).view(-1, 1, 1)
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square of `side` pixels to zero (DeVries & Taylor 2017).

    The centre of the square is uniform over the image, so that a part of the square may lie outside.
    """
    n, _, height, width = pixels.shape
    centres = torch.rand(2, n, 1, generator=generator)
    row, column = ((centres[i] * extent).long().to(pixels.device) for i, extent in ((0, height), (1, width)))
    in_rows = _within(torch.arange(height, device=pixels.device), row, side)
    in_columns = _within(torch.arange(width, device=pixels.device), column, side)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return pixels.masked_fill(hole[:, None], 0.0)


def _within(positions: Tensor, centre: Tensor, side: int) -> Tensor:
    first = centre - side // 2
    return (positions >= first) & (positions < first + side)
