"""Small architectures with every kind of layer, to try methods on.

They have no smaller versions, so `reduced` cannot be tried on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import override

from npas_bench.architectures import Architecture, ImageSignature, Signature
from npas_bench.errors import UnsupportedBudget

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class ExampleArchitecture(Architecture):
    """An architecture whose module a function builds.

    Attributes:
        name: name of the architecture.
        make: builds the module.
        input_shape: shape of one example, without the batch axis.
    """

    name: str
    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]

    @property
    def signature(self) -> ImageSignature:
        """What goes into the module and what comes out."""
        return ImageSignature(self.input_shape, 5)

    @override
    def build(self, signature: Signature) -> nn.Module:
        """A freshly initialised module."""
        return self.make()

    @override
    def reduce(self, signature: Signature, budget: int) -> Architecture:
        """The architecture itself; there is no smaller version."""
        if budget >= self.size(signature):
            return self
        raise UnsupportedBudget(f"{self.name} has no smaller version", smallest=self.size(signature))

    def examples(self, count: int) -> Tensor:
        """Random examples, (count, *input_shape)."""
        return torch.randn(count, *self.input_shape)


class _DenselyConnected(nn.Module):
    """A network whose layers see all earlier outputs, so that no two layers have the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.growing = nn.ModuleList(nn.Conv2d(8 + 6 * i, 6, 3, padding=1, bias=False) for i in range(4))
        self.norm = nn.BatchNorm2d(32)
        self.classifier = nn.Linear(32, 5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.growing:
            x = torch.cat((x, layer(x.relu())), 1)
        logits: Tensor = self.classifier(self.norm(x).mean((2, 3)))
        return logits


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.recurrent = kind(12, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.classifier = nn.Linear(20, 5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.recurrent(x)[0].mean(1))
        return logits


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(16, 5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.encoder(x).mean(1))
        return logits


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )


MLP = ExampleArchitecture("mlp", _mlp, (20,))
DENSELY_CONNECTED = ExampleArchitecture("densely-connected", _DenselyConnected, (3, 8, 8))
GRU = ExampleArchitecture("gru", lambda: _Recurrent(nn.GRU), (7, 12))
LSTM = ExampleArchitecture("lstm", lambda: _Recurrent(nn.LSTM), (7, 12))
TRANSFORMER = ExampleArchitecture("transformer", _Transformer, (6, 16))
EXAMPLES = (MLP, DENSELY_CONNECTED, GRU, LSTM, TRANSFORMER)
