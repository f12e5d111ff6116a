"""The 1x1 convolution of a residual network's shortcut."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


class Shortcut(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th pixel, without padding.

    On a CPU these pixels are picked out first, because oneDNN, as of torch 2.12, writes outside its memory in the
    backward pass of a strided 1x1 convolution of few channels and many pixels in channels-last layout.

    Args:
        into: number of input channels.
        out: number of output channels.
        stride: stride in both directions.
    """

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__(into, out, 1, stride, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """The convolution of (n, into, height, width): (n, out, height / stride, width / stride), rounded up."""
        if x.device.type != "cpu":
            return super().forward(x)
        down, right = self.stride
        return functional.conv2d(x[:, :, ::down, ::right], self.weight)
