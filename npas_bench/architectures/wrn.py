"""Wide residual networks for small images (Zagoruyko & Komodakis 2016), `wrn-D-K`.

A network of depth D = 6 N + 4 has a stem of 16 channels and three stages with 16 K, 32 K and 64 K channels. A stage
consists of N pre-activation blocks of two 3x3 convolutions. Depths of 50, 101 and 152 mean the bottleneck networks for
ImageNet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.architectures.base import Family, initialise_plainly
from npas_bench.architectures.reduction import ConvolutionalArchitecture, Size, places_by_stage
from npas_bench.architectures.resnet import ResNet, wide_bottlenecks
from npas_bench.architectures.shortcut import Shortcut
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from npas_bench.architectures.signatures import ImageSignature
    from npas_bench.layers import Places


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        changes = into != out or stride != 1
        self.shortcut = Shortcut(into, out, stride) if changes else None

    @override
    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.norm1(x))
        # As in the original, a convolution in the shortcut sees the activated input, and an identity the raw input.
        skip = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(functional.relu(self.norm2(self.conv1(active)))) + skip
        return out


class _WideResNet(nn.Module):
    def __init__(self, shape: Size, signature: ImageSignature) -> None:
        super().__init__()
        widths = shape.widths
        self.stem = nn.Conv2d(signature.input_shape[0], widths[0], 3, padding=1, bias=False)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        _Block(widths[s] if b == 0 else widths[s + 1], widths[s + 1], 2 if s and b == 0 else 1)
                        for b in range(depth)
                    )
                )
                for s, depth in enumerate(shape.depths)
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], signature.classes)
        initialise_plainly(self)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = functional.relu(self.norm(self.stages(self.stem(x))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class WideResNet(ConvolutionalArchitecture):
    """A wide residual network; `shape.widths` holds the channels of the stem and of each stage."""

    @override
    def module(self, signature: ImageSignature) -> nn.Module:
        """A network with as many blocks and channels as the shape says."""
        return _WideResNet(self.shape, signature)

    @override
    def count(self, signature: ImageSignature) -> int:
        """Trainable scalars: the convolutions, two scalars a channel for each norm, and the classifier."""
        into, *widths = self.shape.widths
        total = 9 * signature.input_shape[0] * into
        for stage, (depth, out) in enumerate(zip(self.shape.depths, widths, strict=True)):
            shortcut = into * out if into != out or stage else 0
            total += 2 * into + 9 * into * out + 2 * out + 9 * out * out + shortcut
            total += (depth - 1) * (4 * out + 18 * out * out)
            into = out
        return total + 2 * into + (into + 1) * signature.classes

    @override
    def places(self) -> Places:
        """The places of the layers in stages `stage1` to `stage3`; all blocks of a stage but the first repeat."""
        return places_by_stage(len(self.shape.depths), ("conv1", "conv2", "shortcut"))


class WideResNetFamily(Family):
    """The family of `wrn-D-K`, for any depth D = 6 N + 4 and width K, and of bottleneck networks such as `wrn-50-2`."""

    pattern = "wrn-D-K"

    @override
    def parse(self, name: str) -> WideResNet | ResNet:
        """The network whose depth and width are in the name."""
        match = re.fullmatch(r"wrn-(\d{1,4})-(\d{1,3})", name, re.ASCII)
        if match is None:
            raise NpasBenchError(f"architecture '{name}' is not of the form wrn-DEPTH-WIDTH, as wrn-16-2 is")
        depth, width = int(match[1]), int(match[2])
        for_imagenet = wide_bottlenecks(depth, width) if width else None
        if for_imagenet is not None:
            return for_imagenet
        if depth < 10 or (depth - 4) % 6 or width < 1:
            below = max(10, depth - (depth - 4) % 6)
            near = f"wrn-{below}-{max(width, 1)} or wrn-{below + 6}-{max(width, 1)}"
            raise NpasBenchError(
                f"architecture '{name}': the depth of a wrn is 6 N + 4 (10, 16, 22, 28, ...) "
                f"and its width at least 1; nearest: {near}"
            )
        channels = (16, 16 * width, 32 * width, 64 * width)
        return WideResNet(f"wrn-{depth}-{width}", Size(((depth - 4) // 6,) * 3, channels))
