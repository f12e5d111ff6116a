"""Residual networks (He et al. 2016), those for ImageNet also on small images, and wide ones for ImageNet.

`resnet-D`, where D is 10, 18, 34 (basic blocks) or 50, 101, 152 (bottlenecks), is torchvision's network. On images of
at most 64 pixels its stem is one 3x3 convolution without pooling, as is customary for CIFAR. `resnet-D` with
D = 6 N + 2 (20, 32, 44, 56, 110, ...) is the paper's own network for CIFAR (section 4.2): it has three stages of 16,
32 and 64 channels, and shortcuts without parameters (option A). `wrn-50-2` and `wrn-101-2` (Zagoruyko & Komodakis 2016,
table 8) are bottleneck networks with twice as many inner channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.architectures.base import Family, initialise_plainly
from npas_bench.architectures.reduction import ConvolutionalArchitecture, Size, places_by_stage, small_images
from npas_bench.architectures.shortcut import Shortcut
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from npas_bench.architectures.signatures import ImageSignature
    from npas_bench.layers import Places

# Output channels of a bottleneck, as a multiple of its stage's base width.
_EXPANSION = 4


class BlockStyle(NamedTuple):
    """What the blocks of a residual network consist of.

    Attributes:
        bottleneck: whether a block has 1x1, 3x3 and 1x1 convolutions instead of two 3x3 convolutions.
        widening: inner channels of a bottleneck, as a multiple of its stage's base width.
        free_shortcuts: whether a shortcut that changes the shape subsamples and pads instead of convolving (option A).
    """

    bottleneck: bool = False
    widening: int = 1
    free_shortcuts: bool = False

    def out(self, base: int) -> int:
        """Number of output channels of a block of base width `base`."""
        return base * _EXPANSION if self.bottleneck else base


class _Block(nn.Module):
    """Convolutions with norms, and a shortcut that passes them by."""

    def __init__(self, into: int, base: int, stride: int, style: BlockStyle) -> None:
        super().__init__()
        out, inner = style.out(base), base * style.widening
        if style.bottleneck:
            # The stride is that of the 3x3 convolution, as in torchvision.
            self.conv1 = nn.Conv2d(into, inner, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
            self.conv3: nn.Module | None = nn.Conv2d(inner, out, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner)
            self.norm3: nn.Module | None = nn.BatchNorm2d(out)
        else:
            self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
            self.conv3 = self.norm3 = None
        self._stride, self._out = stride, out
        changes = into != out or stride != 1
        convolves = changes and not style.free_shortcuts
        self._cuts = changes and style.free_shortcuts
        self.shortcut = Shortcut(into, out, stride) if convolves else None
        self.shortcut_norm = nn.BatchNorm2d(out) if convolves else None

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        inner = self.norm2(self.conv2(inner))
        if self.conv3 is not None and self.norm3 is not None:
            inner = self.norm3(self.conv3(functional.relu(inner)))
        return functional.relu(inner + self._skip(x))

    def _skip(self, x: Tensor) -> Tensor:
        if self.shortcut is not None and self.shortcut_norm is not None:
            skip: Tensor = self.shortcut_norm(self.shortcut(x))
            return skip
        if self._cuts:
            x = x[:, : self._out, :: self._stride, :: self._stride]
            return functional.pad(x, (0, 0, 0, 0, 0, self._out - x.shape[1]))
        return x


class _ResNet(nn.Module):
    def __init__(self, shape: Size, style: BlockStyle, signature: ImageSignature, *, pooled: bool) -> None:
        super().__init__()
        stem, *bases = shape.widths
        size = 7 if pooled else 3
        self.stem = nn.Conv2d(signature.input_shape[0], stem, size, 2 if pooled else 1, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.pool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()
        stages, into = [], stem
        for stage, (depth, base) in enumerate(zip(shape.depths, bases, strict=True)):
            blocks = []
            for block in range(depth):
                blocks.append(_Block(into, base, 2 if stage and not block else 1, style))
                into = style.out(base)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(into, signature.classes)
        initialise_plainly(self)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = self.stages(self.pool(functional.relu(self.norm(self.stem(x)))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class ResNet(ConvolutionalArchitecture):
    """A residual network; `shape.widths` holds the channels of the stem and the base width of each stage.

    Attributes:
        style: what the blocks consist of.
    """

    style: BlockStyle

    @override
    def module(self, signature: ImageSignature) -> nn.Module:
        """A network with a stem that fits the size of the images."""
        return _ResNet(self.shape, self.style, signature, pooled=self._pooled(signature))

    @override
    def count(self, signature: ImageSignature) -> int:
        """Trainable scalars: the convolutions, two scalars a channel for each norm, and the classifier."""
        stem, *bases = self.shape.widths
        total = (49 if self._pooled(signature) else 9) * signature.input_shape[0] * stem + 2 * stem
        into = stem
        for stage, (depth, base) in enumerate(zip(self.shape.depths, bases, strict=True)):
            out, inner = self.style.out(base), base * self.style.widening
            if self.style.bottleneck:
                rest = 9 * inner * inner + inner * out + 4 * inner + 2 * out
                first, again = into * inner + rest, out * inner + rest
            else:
                first, again = 9 * (into * out + out * out) + 4 * out, 18 * out * out + 4 * out
            shortcut = (into != out or stage) and not self.style.free_shortcuts
            total += first + (depth - 1) * again + (into * out + 2 * out if shortcut else 0)
            into = out
        return total + (into + 1) * signature.classes

    @override
    def places(self) -> Places:
        """The places of the layers: stages `stage1` and so on, repeated blocks and manual groups as in `wrn`."""
        convolutions = ("conv1", "conv2", "conv3") if self.style.bottleneck else ("conv1", "conv2")
        return places_by_stage(len(self.shape.depths), (*convolutions, "shortcut"))

    def _pooled(self, signature: ImageSignature) -> bool:
        return not self.style.free_shortcuts and not small_images(signature)


_BASES = (64, 64, 128, 256, 512)
_DEPTHS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Networks of this depth or more have bottlenecks.
_BOTTLENECKS = 50


def wide_bottlenecks(depth: int, widening: int) -> ResNet | None:
    """`wrn-D-K` for ImageNet: `resnet-D` with K times as many inner channels; None for a depth without bottlenecks."""
    if depth not in _DEPTHS or depth < _BOTTLENECKS:
        return None
    return ResNet(f"wrn-{depth}-{widening}", Size(_DEPTHS[depth], _BASES), BlockStyle(True, widening))


class ResNetFamily(Family):
    """The family of `resnet-D`, for the depths of torchvision's networks and those of the paper's, D = 6 N + 2."""

    pattern = "resnet-D"

    @override
    def parse(self, name: str) -> ResNet:
        """The network whose depth is in the name."""
        match = re.fullmatch(r"resnet-(\d{1,4})", name, re.ASCII)
        if match is None:
            raise NpasBenchError(f"architecture '{name}' is not of the form resnet-DEPTH, as resnet-18 is")
        depth = int(match[1])
        name = f"resnet-{depth}"
        if depth in _DEPTHS:
            return ResNet(name, Size(_DEPTHS[depth], _BASES), BlockStyle(bottleneck=depth >= _BOTTLENECKS))
        if depth < 8 or (depth - 2) % 6:
            below = max(8, depth - (depth - 2) % 6)
            raise NpasBenchError(
                f"architecture '{name}': the depth of a resnet is one of {', '.join(map(str, _DEPTHS))}, "
                f"or 6 N + 2 (20, 32, 44, 56, 110, ...); nearest of these: resnet-{below} or resnet-{below + 6}"
            )
        return ResNet(name, Size(((depth - 2) // 6,) * 3, (16, 16, 32, 64)), BlockStyle(free_shortcuts=True))
