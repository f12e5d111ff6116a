"""What an architecture is: a member of a network family, with a name that fixes its size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from npas_bench.architectures.signatures import ImageSignature, Signature
from npas_bench.errors import SignatureError
from npas_bench.layers import Layer, find_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.layers import Places


class Architecture(ABC):
    """A network whose size its name fixes.

    Attributes:
        name: the name on the command line, `wrn-16-2`.
        accepts: the kinds of signatures that a network can be built for.
    """

    name: str
    accepts: ClassVar[tuple[type[Signature], ...]] = (ImageSignature,)

    def check(self, signature: Signature) -> None:
        """Refuse a signature that no network can be built for; an architecture may ask for more than its kind.

        Raises:
            SignatureError: if the architecture does not accept the signature; the message says what it accepts.
        """
        if not isinstance(signature, self.accepts):
            kinds = " or ".join(kind.kind for kind in self.accepts)
            raise SignatureError(f"architecture '{self.name}' takes {kinds}, not {signature}")

    @abstractmethod
    def build(self, signature: Signature) -> nn.Module:
        """A module for `signature`, freshly initialised from torch's global generator.

        Raises:
            SignatureError: as `check` does.
        """

    @abstractmethod
    def reduce(self, signature: Signature, budget: int) -> Architecture:
        """The largest smaller version of this architecture with at most `budget` trainable scalars.

        Raises:
            UnsupportedBudget: if even the smallest version has more; the error names that version's size.
        """

    def places(self) -> Places | None:
        """A function that gives each layer's place (stage, repeated block, manual parameter group) from its name.

        With None, the children of containers that are alike count as repeated blocks, and there are no manual groups.
        """
        return None

    def initial_deviation(self, layer: Layer) -> float | None:
        """Standard deviation that a layer's weight starts with; None leaves it to the layer's kind and fan-in.

        The same value holds for the plain network, which `build` has to initialise with it, and for every method:
        networks could not be compared otherwise.
        """
        return None

    def layers(self, signature: Signature) -> tuple[Layer, ...]:
        """The layers that the architecture offers to a method, in network order."""
        with torch.device("meta"):
            found = find_layers(self.build(signature), self.places())
        return tuple(replace(layer, initial_deviation=self.initial_deviation(layer)) for layer in found)

    def size(self, signature: Signature) -> int:
        """Number of trainable scalars of the network."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.build(signature).parameters() if p.requires_grad)


class Family(ABC):
    """A family of architectures, which it makes from their names; entry points of `npas_bench.architectures` name it.

    Attributes:
        pattern: the form of the names, with the variable parts in capitals, as in `wrn-D-K`.
        accepts: the kinds of signatures that the members accept, as each member's `Architecture.accepts` says.
    """

    pattern: ClassVar[str]
    accepts: ClassVar[tuple[type[Signature], ...]] = (ImageSignature,)

    @abstractmethod
    def parse(self, name: str) -> Architecture:
        """The architecture called `name`.

        Raises:
            NpasBenchError: if the name does not follow the pattern; the message says what the pattern is.
        """


@torch.no_grad()
def initialise_plainly(module: nn.Module, deviation: Callable[[Layer], float | None] | None = None) -> None:
    """Draw every layer's weight of a plain network from a normal distribution, and set linear layers' biases to zero.

    Args:
        module: the network, changed in place.
        deviation: gives a layer's standard deviation, as `Architecture.initial_deviation` does; without it, or where
            it gives None, the layer's own counts.
    """
    weights = dict(module.named_parameters())
    for layer in find_layers(module):
        given = None if deviation is None else deviation(layer)
        weights[layer.name].normal_(0.0, layer.deviation if given is None else given)
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
