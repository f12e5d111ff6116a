"""Smaller versions of convolutional networks: fewer channels, then fewer blocks (the papers' reduced baseline).

Plummer et al. 2022 "adjust the number and/or size of filters". Here all channel counts shrink together until the
network fits; with what is left over, single ones are widened again. Blocks are removed only where even one channel
everywhere is too many.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from typing_extensions import override

from npas_bench.architectures.base import Architecture
from npas_bench.architectures.signatures import ImageSignature
from npas_bench.errors import SignatureError, UnsupportedBudget
from npas_bench.layers import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from npas_bench.architectures.signatures import Signature
    from npas_bench.layers import Places


# A stem for small images takes images with sides of at most so many pixels.
_SMALL = 64


def small_images(signature: ImageSignature) -> bool:
    """Tell whether images are as small as those of CIFAR and Tiny ImageNet, for which a stem keeps the resolution."""
    return max(signature.input_shape[1:]) <= _SMALL


class Size(NamedTuple):
    """The part of a network's description that a smaller version changes.

    Attributes:
        depths: number of blocks of each stage.
        widths: channel counts, in an order that the family decides.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class ConvolutionalArchitecture(Architecture):
    """A network for images, of any depths and widths.

    Attributes:
        name: the name on the command line; for a reduced version, the depths and widths that are left follow it.
        shape: depths and widths.
    """

    name: str
    shape: Size

    @abstractmethod
    def module(self, signature: ImageSignature) -> nn.Module:
        """A freshly initialised module."""

    @abstractmethod
    def count(self, signature: ImageSignature) -> int:
        """The number of trainable scalars in closed form, so that a search over sizes builds no networks."""

    @override
    def check(self, signature: Signature) -> None:
        """Refuse everything but images of (channels, height, width)."""
        self._images(signature)

    @override
    def build(self, signature: Signature) -> nn.Module:
        """A network for images, with weights from Kaiming's normal distribution by fan-in."""
        return self.module(self._images(signature))

    @override
    def reduce(self, signature: Signature, budget: int) -> Self:
        """The largest smaller version: all channel counts shrink together, then single ones grow; depth goes last."""
        images = self._images(signature)

        def count(depths: tuple[int, ...], widths: tuple[int, ...]) -> int:
            return replace(self, shape=Size(depths, widths)).count(images)

        deepest = max(self.shape.depths)
        for most in range(deepest, 0, -1):
            depths = tuple(max(1, depth * most // deepest) for depth in self.shape.depths)

            def fits(widths: tuple[int, ...], depths: tuple[int, ...] = depths) -> int | None:
                total = count(depths, widths)
                return total if total <= budget else None

            widths = widest(self.shape.widths, fits)
            if widths is not None:
                shape = Size(depths, widths)
                return self if shape == self.shape else replace(self, name=self._describe(shape), shape=shape)
        narrowest = (1,) * len(self.shape.widths)
        smallest = count((1,) * len(self.shape.depths), narrowest)
        raise UnsupportedBudget(f"{self.name} cannot be reduced to {budget:,} parameters", smallest=smallest)

    def _describe(self, shape: Size) -> str:
        widths = "-".join(map(str, shape.widths))
        depths = "" if shape.depths == self.shape.depths else f"depths {'-'.join(map(str, shape.depths))}, "
        return f"{self.name} ({depths}{widths})"

    def _images(self, signature: Signature) -> ImageSignature:
        super().check(signature)
        if not isinstance(signature, ImageSignature) or len(signature.input_shape) != 3:
            raise SignatureError(
                f"architecture '{self.name}' takes images of shape (channels, height, width), not {signature}"
            )
        return signature


def widest(full: tuple[int, ...], fits: Callable[[tuple[int, ...]], int | None]) -> tuple[int, ...] | None:
    """The widest channel counts that fit; None if not even one channel everywhere fits.

    Args:
        full: channel counts of the whole network, none of which is exceeded.
        fits: gives the total of a network of given counts, or None if it is too large.
    """
    most = max(full)

    def scaled(by: int) -> tuple[int, ...]:
        return tuple(max(1, width * by // most) for width in full)

    # The total rises with the scale.
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(scaled(middle)) is not None else (low, middle - 1)
    if low == 0:
        return None
    widths = scaled(low)
    while True:
        wider = [(*widths[:i], width + 1, *widths[i + 1 :]) for i, width in enumerate(widths) if width < full[i]]
        totals = [(total, candidate) for candidate in wider if (total := fits(candidate)) is not None]
        if not totals:
            return widths
        # Of candidates with equal totals, Python's max takes the first one.
        widths = max(totals, key=lambda candidate: candidate[0])[1]


def places_by_stage(stages: int, first: Sequence[str]) -> Places:
    """The places of the layers of a network of stages, where all blocks of a stage but the first are alike.

    Layers are named `stages.S.B.NAME`. The stages are `stage1` and so on; all blocks of a stage but the first repeat.
    The manual groups are those that the papers count fourteen of in WRN-28-10: the stem; for each stage, every layer of
    the first block, and the layers of all repeated blocks together; the classifier.

    Args:
        stages: number of stages.
        first: names of the layers of a stage's first block.
    """
    of_stage = len(first) + 1

    def place(layer: str) -> Place:
        parts = layer.split(".")
        if parts[0] != "stages":
            return Place(group=0 if parts[0] == "stem" else 1 + of_stage * stages)
        stage, block = int(parts[1]), int(parts[2])
        name = f"stage{stage + 1}"
        if block == 0:
            return Place(name, None, 1 + of_stage * stage + first.index(parts[3]))
        return Place(name, name, of_stage * (stage + 1))

    return place
