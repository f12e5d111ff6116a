"""Wide residual networks for small images (Zagoruyko & Komodakis 2016), `wrn-D-K`.

Depth D = 6 N + 4: three stages of N pre-activation blocks of two 3x3 convolutions, with 16 K, 32 K and
64 K channels, behind a stem of 16 channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from npas_bench.architectures.base import Architecture, Family, Signature, initialise_plainly
from npas_bench.errors import NpasBenchError, UnsupportedBudget
from npas_bench.layers import Place

if TYPE_CHECKING:
    from npas_bench.layers import Places


class Channels(NamedTuple):
    """Channels of the stem and of the three stages."""

    stem: int
    stage1: int
    stage2: int
    stage3: int


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        changes = into != out or stride != 1
        self.shortcut = nn.Conv2d(into, out, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.norm1(x))
        # As in the original, a shortcut convolution sees the activated input, an identity the raw one.
        skip = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(functional.relu(self.norm2(self.conv1(active)))) + skip
        return out


class _WideResNet(nn.Module):
    def __init__(self, blocks: int, channels: Channels, signature: Signature) -> None:
        super().__init__()
        self.stem = nn.Conv2d(signature.input_shape[0], channels.stem, 3, padding=1, bias=False)
        widths = list(channels)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        _Block(widths[s] if b == 0 else widths[s + 1], widths[s + 1], 2 if s and b == 0 else 1)
                        for b in range(blocks)
                    )
                )
                for s in range(3)
            )
        )
        self.norm = nn.BatchNorm2d(channels.stage3)
        self.classifier = nn.Linear(channels.stage3, signature.classes)
        initialise_plainly(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, channels, height, width)."""
        x = functional.relu(self.norm(self.stages(self.stem(x))))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class WideResNet(Architecture):
    """A wide residual network of any channel counts.

    Attributes:
        name: `wrn-D-K`, with the channel counts behind it for a reduced version.
        blocks: N, blocks per stage.
        channels: of the stem and the stages.
    """

    name: str
    blocks: int
    channels: Channels

    def build(self, signature: Signature) -> nn.Module:
        """A network for images; its weights are Kaiming-normal by fan-in."""
        _check_images(self.name, signature)
        return _WideResNet(self.blocks, self.channels, signature)

    def places(self) -> Places:
        """Stages are `stage1` to `stage3`; all blocks of a stage but the first repeat.

        The manual groups are the papers' fourteen for WRN-28-10, counted the same way at every depth: the
        stem; per stage the first block's layers each alone and all repeated ones together; the classifier.
        """
        return _place

    def reduce(self, signature: Signature, budget: int) -> WideResNet:
        """Scale all channel counts down together, then use up the rest stage by stage; depth comes last."""
        _check_images(self.name, signature)
        for blocks in range(self.blocks, 0, -1):
            channels = _widest(blocks, self.channels, signature, budget)
            if channels is not None:
                depth = "" if blocks == self.blocks else f"depth {6 * blocks + 4}, "
                if channels == self.channels and not depth:
                    return self
                return WideResNet(f"{self.name} ({depth}{'-'.join(map(str, channels))})", blocks, channels)
        smallest = _count(1, Channels(1, 1, 1, 1), signature)
        raise UnsupportedBudget(f"{self.name} cannot be reduced to {budget:,} parameters", smallest=smallest)


class WideResNetFamily(Family):
    """Makes `wrn-D-K` for any depth D = 6 N + 4 and width K."""

    pattern = "wrn-D-K"

    def parse(self, name: str) -> WideResNet:
        """Read depth and width off the name."""
        match = re.fullmatch(r"wrn-(\d{1,4})-(\d{1,3})", name, re.ASCII)
        if match is None:
            raise NpasBenchError(f"architecture '{name}' is not of the form wrn-DEPTH-WIDTH, as wrn-16-2 is")
        depth, width = int(match[1]), int(match[2])
        if depth < 10 or (depth - 4) % 6 or width < 1:
            below = max(10, depth - (depth - 4) % 6)
            near = f"wrn-{below}-{max(width, 1)} or wrn-{below + 6}-{max(width, 1)}"
            raise NpasBenchError(
                f"architecture '{name}': the depth of a wrn is 6 N + 4 (10, 16, 22, 28, ...) "
                f"and its width at least 1; nearest: {near}"
            )
        channels = Channels(16, 16 * width, 32 * width, 64 * width)
        return WideResNet(f"wrn-{depth}-{width}", (depth - 4) // 6, channels)


def _place(layer: str) -> Place:
    parts = layer.split(".")
    if parts[0] != "stages":
        return Place(group=0 if parts[0] == "stem" else 13)
    stage, block = int(parts[1]), int(parts[2])
    first = {"conv1": 0, "conv2": 1, "shortcut": 2}
    if block == 0:
        return Place(f"stage{stage + 1}", None, 1 + 4 * stage + first[parts[3]])
    return Place(f"stage{stage + 1}", f"stage{stage + 1}", 4 + 4 * stage)


def _check_images(name: str, signature: Signature) -> None:
    if len(signature.input_shape) != 3:
        raise NpasBenchError(
            f"architecture '{name}' takes images (channels, height, width), not {signature.input_shape}"
        )


def _count(blocks: int, channels: Channels, signature: Signature) -> int:
    """Trainable scalars in closed form, so that a search over channel counts builds nothing."""
    total = 9 * signature.input_shape[0] * channels.stem
    into = channels.stem
    for stage, out in enumerate(channels[1:]):
        shortcut = into * out if into != out or stage else 0
        total += 2 * into + 9 * into * out + 2 * out + 9 * out * out + shortcut
        total += (blocks - 1) * (4 * out + 18 * out * out)
        into = out
    return total + 2 * into + into * signature.classes + signature.classes


def _widest(blocks: int, full: Channels, signature: Signature, budget: int) -> Channels | None:
    def scaled(widest: int) -> Channels:
        return Channels(*(max(1, width * widest // max(full)) for width in full))

    def fits(channels: Channels) -> bool:
        return _count(blocks, channels, signature) <= budget

    sizes = [widest for widest in range(max(full), 0, -1) if fits(scaled(widest))]
    if not sizes:
        return None
    channels = scaled(sizes[0])
    while True:
        wider = [
            channels._replace(**{name: width + 1})
            for name, width in channels._asdict().items()
            if width < getattr(full, name)
        ]
        wider = [candidate for candidate in wider if fits(candidate)]
        if not wider:
            return channels
        channels = max(wider, key=lambda candidate: _count(blocks, candidate, signature))
