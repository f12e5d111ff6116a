"""EfficientNet-B0 (Tan & Le 2019), as torchvision builds it, and with network deconvolution (Ye et al. 2020).

Here `efficientnet-b0` may have any number of channels, which are not rounded. On images of at most 64 pixels its stem
keeps their resolution. `efficientnet-nd` has deconvolutions with biases in place of convolutions and batch norms; the
squeezing layers, which see one pixel of each image, and the classifier stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torchvision.models.efficientnet import EfficientNet as Torchvisions
from torchvision.models.efficientnet import MBConvConfig
from torchvision.ops.misc import SqueezeExcitation
from typing_extensions import override

from npas_bench.architectures.base import Family, initialise_plainly
from npas_bench.architectures.deconvolution import deconvolve
from npas_bench.architectures.reduction import ConvolutionalArchitecture, Size, small_images
from npas_bench.errors import NpasBenchError
from npas_bench.layers import Place

if TYPE_CHECKING:
    from npas_bench.architectures.signatures import ImageSignature
    from npas_bench.layers import Places

# For each stage: channels inside a block as a multiple of its input channels, kernel size, stride (table 1).
_STAGES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
# Channels of the stem, of each stage and of the head.
_WIDTHS = (32, 16, 24, 40, 80, 112, 192, 320, 1280)
_DROPOUT = 0.2
# Input channels of a block, as a multiple of the channels that it is squeezed to.
_SQUEEZE = 4


class _Unrounded(MBConvConfig):  # type: ignore[misc]
    """A configuration whose channels are not rounded to multiples of eight, as torchvision's are."""

    @staticmethod
    def adjust_channels(channels: int, width_mult: float, min_value: int | None = None) -> int:
        return round(channels * width_mult)


@dataclass(frozen=True)
class EfficientNet(ConvolutionalArchitecture):
    """An EfficientNet; `shape.widths` holds the channels of the stem, of each stage and of the head.

    Attributes:
        deconvolved: whether convolutions decorrelate their inputs, and there are no norms.
    """

    deconvolved: bool = False

    @override
    def module(self, signature: ImageSignature) -> nn.Module:
        """Torchvision's network, with a stem that fits the size of the images."""
        stem, *widths, head = self.shape.widths
        givens = (stem, *widths[:-1])
        settings = [
            _Unrounded(expansion, kernel, stride, given, width, depth)
            for (expansion, kernel, stride), given, width, depth in zip(
                _STAGES, givens, widths, self.shape.depths, strict=True
            )
        ]
        module: nn.Module = Torchvisions(
            settings,
            _DROPOUT,
            num_classes=signature.classes,
            last_channel=head,
            norm_layer=nn.Identity if self.deconvolved else nn.BatchNorm2d,
        )
        stride = 1 if small_images(signature) else 2
        first = module.get_submodule("features.0")
        first[0] = nn.Conv2d(signature.input_shape[0], stem, 3, stride, 1, bias=False)  # type: ignore[operator]
        if self.deconvolved:
            deconvolve(module, keep=(SqueezeExcitation,))
        initialise_plainly(module)
        return module

    @override
    def count(self, signature: ImageSignature) -> int:
        """Trainable scalars: convolutions, with two scalars a channel for a norm or one for a bias; linear layers."""
        more = 1 if self.deconvolved else 2
        into, *widths, head = self.shape.widths
        total = 9 * signature.input_shape[0] * into + more * into
        for (expansion, kernel, _), depth, out in zip(_STAGES, self.shape.depths, widths, strict=True):
            for _ in range(depth):
                inner, squeezed = into * expansion, max(1, into // _SQUEEZE)
                expand = into * inner + more * inner if expansion != 1 else 0
                squeeze = 2 * inner * squeezed + inner + squeezed
                total += expand + kernel**2 * inner + more * inner + squeeze + inner * out + more * out
                into = out
        return total + into * head + more * head + (head + 1) * signature.classes

    @override
    def places(self) -> Places:
        """The places of the layers in stages `stage1` to `stage7`; all blocks of a stage but the first repeat.

        The manual groups are: the stem; for each stage the layers of the first block, and those of the repeated blocks;
        the convolution of the head; the classifier.
        """
        stages = len(_STAGES)

        def place(layer: str) -> Place:
            part, *rest = layer.split(".")
            if part == "classifier":
                return Place(group=2 * stages + 2)
            stage = int(rest[0])
            if stage in (0, stages + 1):
                return Place(group=0 if stage == 0 else 2 * stages + 1)
            name, repeats = f"stage{stage}", int(rest[1]) > 0
            return Place(name, name if repeats else None, 2 * stage - 1 + repeats)

        return place


class EfficientNetFamily(Family):
    """The family of `efficientnet-b0` and `efficientnet-nd`."""

    pattern = "efficientnet-b0, efficientnet-nd"

    @override
    def parse(self, name: str) -> EfficientNet:
        """The network of that name."""
        if name not in ("efficientnet-b0", "efficientnet-nd"):
            raise NpasBenchError(f"architecture '{name}' is neither efficientnet-b0 nor efficientnet-nd")
        return EfficientNet(name, Size(_DEPTHS, _WIDTHS), deconvolved=name == "efficientnet-nd")
