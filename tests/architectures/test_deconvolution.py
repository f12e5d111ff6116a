"""Network deconvolution against its definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from npas_bench.architectures import deconvolution
from npas_bench.architectures.deconvolution import Deconvolution, inverse_root


def test_the_inverse_root_converges():
    torch.manual_seed(0)
    a = torch.randn(3, 6, 20, dtype=torch.float64)
    matrices = a @ a.mT / 20
    root = inverse_root(matrices, 30)
    torch.testing.assert_close(root @ matrices @ root, torch.eye(6, dtype=torch.float64).expand(3, 6, 6))


@pytest.mark.parametrize("channels", [3, 64, 96, 128])
def test_channels_are_whitened_in_blocks_of_equal_size(channels):
    layer = Deconvolution(nn.Conv2d(channels, 4, 3, padding=1))
    block = layer.running_mean.shape[1] // 9
    assert block <= 64 and channels % block == 0


@pytest.mark.parametrize(("channels", "groups", "size"), [(4, 1, 1), (4, 1, 3), (4, 4, 3), (6, 2, 3)])
def test_it_convolves_whitened_patches(channels, groups, size, monkeypatch):
    """What it computes is the kernel times patches whose mean and covariance are taken off, one by one."""
    monkeypatch.setattr(deconvolution, "_STRIDE", 1)
    monkeypatch.setattr(deconvolution, "_ITERATIONS", 40)
    torch.manual_seed(0)
    mixing = torch.randn(channels, channels, dtype=torch.float64)
    x = torch.einsum("ij,njhw->nihw", mixing, torch.randn(8, channels, 6, 6, dtype=torch.float64)) + 3
    layer = Deconvolution(nn.Conv2d(channels, groups * 2, size, padding=size // 2, groups=groups)).double()
    out = layer(x)
    patches = functional.unfold(x, size, padding=size // 2).view(8, groups, -1, 36)
    rows = patches.permute(1, 0, 3, 2).reshape(groups, 8 * 36, -1)
    centred = rows - rows.mean(1, keepdim=True)
    covariance = centred.mT @ centred / rows.shape[1] + 1e-5 * torch.eye(rows.shape[2], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    white = centred @ vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
    kernel = layer.weight.view(groups, 2, -1)
    expected = (white @ kernel.mT).view(groups, 8, 36, 2).permute(1, 0, 3, 2).reshape(8, groups * 2, 6, 6)
    torch.testing.assert_close(out, expected + layer.bias.view(1, -1, 1, 1))


def test_evaluation_takes_running_values():
    torch.manual_seed(0)
    layer = Deconvolution(nn.Conv2d(3, 5, 3, padding=1))
    x = 2 * torch.randn(16, 3, 12, 12) + 1
    for _ in range(100):
        trained = layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x), trained, rtol=1e-3, atol=1e-3)
    # One image alone is as it was among others: nothing depends on the batch.
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


def test_gradients_are_those_of_the_whole_computation():
    torch.manual_seed(0)
    layer = Deconvolution(nn.Conv2d(2, 2, 3, padding=1)).double()
    x = torch.randn(4, 2, 7, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x), x)
