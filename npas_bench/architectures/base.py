"""What an architecture is: a network family's member with a name that fixes its size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import nn

from npas_bench.layers import Layer, find_layers

if TYPE_CHECKING:
    from npas_bench.layers import Places


class Signature(NamedTuple):
    """What a task puts into a network and takes out, known without data.

    Attributes:
        input_shape: of one example, without the batch axis; (channels, height, width) for images.
        classes: number of outputs.
    """

    input_shape: tuple[int, ...]
    classes: int


class Architecture(ABC):
    """A network whose size its name fixes.

    Attributes:
        name: as on the command line, `wrn-16-2`.
    """

    name: str

    @abstractmethod
    def build(self, signature: Signature) -> nn.Module:
        """A freshly initialised module for `signature`, from torch's global generator.

        Raises:
            NpasBenchError: if the architecture does not fit the signature.
        """

    @abstractmethod
    def reduce(self, signature: Signature, budget: int) -> Architecture:
        """The largest smaller version of this architecture with at most `budget` trainable scalars.

        Raises:
            UnsupportedBudget: if even the smallest version has more; it names that version's size.
        """

    def places(self) -> Places | None:
        """Tells the place of each layer: stage, repeated block, manual parameter group.

        None reads repeated blocks off containers whose children are alike, and has no manual groups.
        """
        return None

    def layers(self, signature: Signature) -> tuple[Layer, ...]:
        """The layers it offers to a method, in network order."""
        with torch.device("meta"):
            return find_layers(self.build(signature), self.places())

    def size(self, signature: Signature) -> int:
        """Its trainable scalars."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(signature).parameters() if p.requires_grad)


class Family(ABC):
    """Makes architectures from names; what an entry point of `npas_bench.architectures` names.

    Attributes:
        pattern: what its names look like, with the variable parts in capitals, `wrn-D-K`.
    """

    pattern: ClassVar[str]

    @abstractmethod
    def parse(self, name: str) -> Architecture:
        """The architecture called `name`.

        Raises:
            NpasBenchError: if the name does not follow the pattern; the message says how it should.
        """


@torch.no_grad()
def initialise_plainly(module: nn.Module) -> None:
    """Give every layer of a plain network its deviation, normal, and every linear layer's bias zero."""
    weights = dict(module.named_parameters())
    for layer in find_layers(module):
        weights[layer.name].normal_(0.0, layer.deviation)
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
