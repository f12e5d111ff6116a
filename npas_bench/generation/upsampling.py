"""What a weight is upsampled from where a store has fewer scalars than it needs (Plummer et al. 2022, 3.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from npas_bench.generation.plan import Reader


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
