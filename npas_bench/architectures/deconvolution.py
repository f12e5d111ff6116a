"""Network deconvolution (Ye et al. 2020): convolutions whose input is decorrelated over pixels and channels.

There is no batch norm after such a convolution. Instead the patches that the convolution sees are whitened: they are
centred and multiplied by the inverse square root of their covariance, which is folded into the kernel (algorithm 1).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

# The covariance is computed from the patches at every third pixel in both directions (section 3.4, subsampling).
_STRIDE = 3
_BLOCK = 64
_ITERATIONS = 5
_EPSILON = 1e-5


class Deconvolution(nn.Conv2d):
    """A convolution that decorrelates its input; it has a bias, and no norm follows it.

    Channels are divided into blocks of at most 64, which share one covariance (section 3.4); a grouped convolution has
    one covariance for each group. In evaluation the running mean and the running inverse root are used.

    Args:
        plain: the convolution that this one replaces; it pads with zeros.

    Raises:
        ValueError: if the convolution pads in another way, or by a word such as `same`.
    """

    running_mean: Tensor
    running_root: Tensor
    # Like the statistics of a batch norm, which they replace, these count as nothing that is trained.
    normalisation_statistics: ClassVar[tuple[str, ...]] = ("running_mean", "running_root")
    momentum: ClassVar[float] = 0.1

    def __init__(self, plain: nn.Conv2d) -> None:
        if plain.padding_mode != "zeros" or isinstance(plain.padding, str):
            raise ValueError("a deconvolution pads with zeros, by a given number")
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,  # type: ignore[arg-type]
            plain.stride,  # type: ignore[arg-type]
            plain.padding,  # type: ignore[arg-type]
            plain.dilation,  # type: ignore[arg-type]
            plain.groups,
            bias=True,
        )
        of_group = plain.in_channels // plain.groups
        block = min(_BLOCK, of_group)
        self._block = block if of_group % block == 0 else math.gcd(block, of_group)
        if plain.groups > 1:
            self._block = of_group
        self._features = self._block * math.prod(plain.kernel_size)
        self.register_buffer("running_mean", torch.zeros(plain.groups, self._features))
        self.register_buffer("running_root", torch.eye(self._features).repeat(plain.groups, 1, 1))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """The convolution of the decorrelated input (n, channels, height, width)."""
        if self.training:
            with torch.autocast(x.device.type, enabled=False):
                mean, root = self._whitening(x.float() if x.dtype.itemsize < 4 else x)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_root.lerp_(root.to(self.running_root.dtype), self.momentum)
        else:
            mean, root = self.running_mean, self.running_root
        # (groups, outputs of a group x blocks, features) @ (groups, features, features)
        weight = self.weight.reshape(self.groups, -1, self._features).to(mean.dtype) @ root
        shift = (weight @ mean.unsqueeze(2)).view(self.out_channels, -1).sum(1)
        bias = -shift if self.bias is None else self.bias - shift
        kernel = weight.view_as(self.weight)
        return functional.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)

    def _whitening(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the patches (groups, features), and inverse root of their covariance (groups, features, features)."""
        patches = functional.unfold(x, self.kernel_size, self.dilation, self.padding, _STRIDE)  # type: ignore[arg-type]
        # (n, groups x blocks x features, positions) -> (groups, n x positions x blocks, features)
        patches = patches.view(len(x), self.groups, -1, self._features, patches.shape[-1])
        patches = patches.permute(1, 0, 4, 2, 3).reshape(self.groups, -1, self._features)
        mean = patches.mean(1)
        patches = patches - mean.unsqueeze(1)
        unit = torch.eye(self._features, dtype=x.dtype, device=x.device)
        covariance = patches.mT @ patches / patches.shape[1] + _EPSILON * unit
        return mean, inverse_root(covariance, _ITERATIONS)


def inverse_root(matrices: Tensor, iterations: int) -> Tensor:
    """The inverse square roots of positive definite matrices (n, d, d), by coupled Newton-Schulz iterations.

    The method is that of Higham 2008, section 6.7. Each matrix is divided by its Frobenius norm first, so that the
    iterations converge.
    """
    norm = matrices.flatten(1).norm(dim=1).view(-1, 1, 1)
    unit = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    y, z = matrices / norm, unit
    for _ in range(iterations):
        correction = 1.5 * unit - 0.5 * z @ y
        y, z = y @ correction, correction @ z
    root: Tensor = z / norm.sqrt()
    return root


def deconvolve(module: nn.Module, keep: tuple[type[nn.Module], ...] = ()) -> None:
    """Replace all convolutions of `module` by deconvolutions, except those inside modules of the types in `keep`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(module, name, Deconvolution(child))
        elif not isinstance(child, keep):
            deconvolve(child, keep)
