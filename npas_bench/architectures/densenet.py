"""Densely connected networks with bottlenecks and compression (Huang et al. 2017), for CIFAR and ImageNet.

`densenet-bc-L-k` is the paper's network for CIFAR (section 3). It has a stem of 2 k channels, three dense blocks of
(L - 4) / 6 layers, and transitions that halve the channels. Each layer consists of a 1x1 convolution to 4 k channels
and a 3x3 convolution to k channels. `densenet-D`, where D is 121, 169, 201 (k = 32) or 161 (k = 48), is torchvision's
network for ImageNet (table 1); on images of at most 64 pixels its stem is one 3x3 convolution without pooling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.architectures.base import Family, initialise_plainly
from npas_bench.architectures.reduction import ConvolutionalArchitecture, Size, small_images
from npas_bench.errors import NpasBenchError
from npas_bench.layers import Place

if TYPE_CHECKING:
    from npas_bench.architectures.signatures import ImageSignature
    from npas_bench.layers import Places

# Channels of a bottleneck, as a multiple of the growth rate.
_BOTTLENECK = 4


class _Layer(nn.Module):
    """Adds `growth` channels to the channels of its input."""

    def __init__(self, into: int, bottleneck: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, bottleneck, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck)
        self.conv2 = nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat((x, self.conv2(functional.relu(self.norm2(inner)))), 1)


class _Transition(nn.Module):
    """Halves the number of channels and the resolution."""

    def __init__(self, into: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(into)
        self.conv = nn.Conv2d(into, _compressed(into), 1, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)


class _DenseNet(nn.Module):
    def __init__(self, shape: Size, signature: ImageSignature, *, pooled: bool) -> None:
        super().__init__()
        into, *widths = shape.widths
        size = 7 if pooled else 3
        self.stem = nn.Conv2d(signature.input_shape[0], into, size, 2 if pooled else 1, size // 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(into) if pooled else None
        stages: list[nn.Module] = []
        transitions: list[nn.Module] = []
        for stage, (depth, bottleneck, growth) in enumerate(_stages(shape.depths, widths)):
            if stage:
                transitions.append(_Transition(into))
                into = _compressed(into)
            stages.append(nn.Sequential(*(_Layer(into + i * growth, bottleneck, growth) for i in range(depth))))
            into += depth * growth
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(transitions)
        self.norm = nn.BatchNorm2d(into)
        self.classifier = nn.Linear(into, signature.classes)
        initialise_plainly(self)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = self.stem(x)
        if self.stem_norm is not None:
            x = functional.max_pool2d(functional.relu(self.stem_norm(x)), 3, 2, 1)
        x = self.stages[0](x)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(x))
        logits: Tensor = self.classifier(functional.relu(self.norm(x)).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class DenseNet(ConvolutionalArchitecture):
    """A densely connected network.

    `shape.widths` holds the channels of the stem, then the bottleneck's channels and the growth rate of each block.

    Attributes:
        for_imagenet: whether the stem pools, and has a norm, where images are large enough.
    """

    for_imagenet: bool = False

    @override
    def module(self, signature: ImageSignature) -> nn.Module:
        """A network with a stem that fits the size of the images."""
        return _DenseNet(self.shape, signature, pooled=self._pooled(signature))

    @override
    def count(self, signature: ImageSignature) -> int:
        """Trainable scalars: the convolutions, two scalars a channel for each norm, and the classifier."""
        into, *widths = self.shape.widths
        pooled = self._pooled(signature)
        total = (49 if pooled else 9) * signature.input_shape[0] * into + (2 * into if pooled else 0)
        for stage, (depth, bottleneck, growth) in enumerate(_stages(self.shape.depths, widths)):
            if stage:
                total += 2 * into + into * _compressed(into)
                into = _compressed(into)
            # The input channels of all layers, added up.
            given = depth * into + growth * depth * (depth - 1) // 2
            total += 2 * given + bottleneck * given + depth * (2 * bottleneck + 9 * bottleneck * growth)
            into += depth * growth
        return total + 2 * into + (into + 1) * signature.classes

    @override
    def places(self) -> Places:
        """The places of the layers; the stages are the dense blocks, `stage1` and so on.

        The 3x3 convolutions of a block are alike and count as repeated; its 1x1 convolutions have ever more input
        channels. The manual groups are: the stem; the 1x1 and the 3x3 convolutions of each block; each transition; the
        classifier.
        """
        stages = len(self.shape.depths)

        def place(layer: str) -> Place:
            part, *rest = layer.split(".")
            if part == "stages":
                stage, repeats = int(rest[0]), rest[2] == "conv2"
                name = f"stage{stage + 1}"
                return Place(name, name if repeats else None, 1 + 2 * stage + repeats)
            if part == "transitions":
                return Place("", None, 1 + 2 * stages + int(rest[0]))
            return Place(group=0 if part == "stem" else 3 * stages)

        return place

    def _pooled(self, signature: ImageSignature) -> bool:
        return self.for_imagenet and not small_images(signature)


def _stages(depths: tuple[int, ...], widths: list[int]) -> list[tuple[int, int, int]]:
    """The depth, the bottleneck's channels and the growth rate of every dense block."""
    return list(zip(depths, widths[::2], widths[1::2], strict=True))


def _compressed(channels: int) -> int:
    return max(1, channels // 2)


def _widths(growth: int, blocks: int) -> tuple[int, ...]:
    return (2 * growth, *(_BOTTLENECK * growth, growth) * blocks)


# The number of layers of each dense block, and the growth rate.
_FOR_IMAGENET = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
}


class DenseNetFamily(Family):
    """The family of `densenet-bc-L-k`, for any depth L = 6 N + 4 and growth rate k, and of torchvision's networks."""

    pattern = "densenet-bc-L-K, densenet-D"

    @override
    def parse(self, name: str) -> DenseNet:
        """The network whose depth and growth rate are in the name."""
        small = re.fullmatch(r"densenet-bc-(\d{1,4})-(\d{1,3})", name, re.ASCII)
        large = re.fullmatch(r"densenet-(\d{1,4})", name, re.ASCII)
        if small is None and (large is None or int(large[1]) not in _FOR_IMAGENET):
            known = ", ".join(f"densenet-{depth}" for depth in _FOR_IMAGENET)
            raise NpasBenchError(
                f"architecture '{name}' is not of the form densenet-bc-DEPTH-GROWTH, as densenet-bc-100-12 is, "
                f"nor one of {known}"
            )
        if small is None:
            depth = int(large[1]) if large else 0
            depths, growth = _FOR_IMAGENET[depth]
            return DenseNet(f"densenet-{depth}", Size(depths, _widths(growth, len(depths))), for_imagenet=True)
        depth, growth = int(small[1]), int(small[2])
        if depth < 10 or (depth - 4) % 6 or growth < 1:
            below = max(10, depth - (depth - 4) % 6)
            near = " or ".join(f"densenet-bc-{near}-{max(growth, 1)}" for near in (below, below + 6))
            raise NpasBenchError(
                f"architecture '{name}': the depth of a densenet-bc is 6 N + 4 (40, 100, 190, ...) "
                f"and its growth at least 1; nearest: {near}"
            )
        return DenseNet(f"densenet-bc-{depth}-{growth}", Size(((depth - 4) // 6,) * 3, _widths(growth, 3)))
