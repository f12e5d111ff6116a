"""What a method is: it turns an architecture and a budget into a network to train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from npas_bench.errors import OptionError, UnknownName, UnsupportedBudget
from npas_bench.network import GeneratedNetwork, Network
from npas_bench.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from npas_bench.allocation import Allocation
    from npas_bench.architectures import Architecture, Signature
    from npas_bench.budget import Ledger
    from npas_bench.layers import Layer


class Trial(Protocol):
    """A short training on the task's training split, for methods that search before they train.

    It counts as training time. It draws from generators of its own, so that a network that is built after a search
    starts with the same values as one that is built from what the search found.
    """

    def __call__(
        self, network: GeneratedNetwork, share: float, *, milestones: Sequence[float] = (), gradients: bool = False
    ) -> dict[str, Tensor]:
        """Train a network in place, and leave it on the CPU.

        Args:
            network: the network to train, which may exceed the budget.
            share: share of the recipe's epochs that it is trained for; at least one epoch.
            milestones: shares of the trial after which the learning rate falls tenfold. Without them the recipe's own
                schedule is run through in the shorter time.
            gradients: whether to return gradients.

        Returns:
            The gradient of each generated weight, summed over the last epoch, by layer; empty unless asked for.
        """


@dataclass(frozen=True)
class Problem:
    """Everything that a method may use.

    Attributes:
        architecture: the architecture whose weights are allocated.
        signature: what goes into the network and what comes out.
        budget: number of trainable scalars that the network may have in total.
        seed: seed of every choice that the method makes, apart from initial values.
        trial: trains a network for a search. It is None in a preview, where nothing can be trained; a method that
            searches then shows what it can without a search.
        structure: what an earlier search for the same cell decided, as `structure()` of its network said; empty if
            there was none. A method builds from it without searching again.
    """

    architecture: Architecture
    signature: Signature
    budget: int
    seed: int = 0
    trial: Trial | None = field(default=None, compare=False)
    structure: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The architecture's layers, in network order."""
        return self.architecture.layers(self.signature)

    @cached_property
    def full(self) -> int:
        """Number of trainable scalars of the architecture itself."""
        return self.architecture.size(self.signature)

    @property
    def fixed(self) -> int:
        """Number of trainable scalars that no method generates: biases, normalisation, embedding tables."""
        return self.full - sum(layer.size for layer in self.layers)

    @property
    def available(self) -> int:
        """What the fixed parameters leave of the budget; an allocation pays for all of its parameters from it."""
        return self.budget - self.fixed

    def module(self) -> nn.Module:
        """A module of the architecture, freshly initialised from torch's global generator."""
        return self.architecture.build(self.signature)

    def smaller(self) -> Architecture:
        """The largest smaller version of the architecture that fits the budget; the architecture itself if it fits.

        Raises:
            UnsupportedBudget: if there is no such version.
        """
        if self.budget >= self.full:
            return self.architecture
        return self.architecture.reduce(self.signature, self.budget)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator on the CPU for one purpose, independent of those for other purposes."""
        return torch.Generator().manual_seed(derive_seed("method", purpose, self.seed))


class MethodOptions(BaseModel):
    """Base class of a method's options: they are frozen, and unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def refuse_idle(self, idle: Mapping[str, bool], others: str) -> None:
        """Refuse options that were given and have no effect; to be called by a validator.

        Args:
            idle: whether an option has no effect, by its name.
            others: the values of other options that this follows from, in words.

        Raises:
            ValueError: if there is such an option.
        """
        for option, without_effect in idle.items():
            if option in self.model_fields_set and without_effect:
                raise ValueError(f"{option} has no effect with {others}")


class Method(ABC):
    """Turns an architecture and a budget into a network to train.

    Attributes:
        name: the name on the command line, which is that of the entry point.
        version: a number that rises when the method's results change.
        Options: the method's options, each with its unit and source; a method without options need not set it.
        whole: whether the method trains the architecture itself, whatever the budget, so that a grid runs it only once,
            at 100 %.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    whole: ClassVar[bool] = False
    options: MethodOptions

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        given = dict(options or {})
        for key in given:
            if key not in self.Options.model_fields:
                raise UnknownName(f"option of method {self.name}", key, self.Options.model_fields)
        try:
            self.options = self.Options.model_validate(given)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            if not place:  # The error is about several options together, in the method's own words.
                raise OptionError(f"method {self.name}: {problem['ctx']['error']}") from None
            raise OptionError(
                f"method {self.name}, option {place}: {problem['msg']} (given: {problem['input']!r})"
            ) from None

    @abstractmethod
    def build(self, problem: Problem) -> Network:
        """The network to train, with initial values from torch's global generator.

        It must also be possible to build it on the meta device, where tensors have shapes and no values.

        Raises:
            UnsupportedBudget: if the budget cannot be met; the error names the smallest (or largest) that can.
        """

    def preview(self, problem: Problem) -> Ledger:
        """The ledger of what `build` would make, without memory or training.

        Raises:
            UnsupportedBudget: as `build` does.
        """
        with torch.device("meta"):
            return self.build(problem).ledger(problem.budget)


class SharingMethod(Method):
    """A method that generates every layer's weight from shared parameters."""

    @abstractmethod
    def allocate(self, problem: Problem) -> Allocation:
        """The parameters, at most `problem.available` scalars, and how each layer's weight is generated from them.

        Raises:
            UnsupportedBudget: if the budget cannot be met.
        """

    @override
    def build(self, problem: Problem) -> Network:
        """The architecture, with the weights that the allocation generates."""
        if not problem.layers:
            raise OptionError(f"architecture '{problem.architecture.name}' has no layer that can be generated")
        allocation = self.allocate(problem)
        return GeneratedNetwork(problem.module(), problem.layers, allocation)


def require(needed: int, problem: Problem) -> None:
    """Refuse a budget of fewer trainable scalars than a method needs.

    Args:
        needed: the fewest scalars that the method can meet the problem with, fixed parameters included.
        problem: the problem.

    Raises:
        UnsupportedBudget: if the budget is smaller.
    """
    if needed > problem.budget:
        raise unsupported_below(needed, problem)


def unsupported_below(smallest: int, problem: Problem) -> UnsupportedBudget:
    """The error for a budget below the smallest one that a method can meet."""
    return UnsupportedBudget(
        f"a budget of {problem.budget:,} is too small for {problem.architecture.name}, "
        f"which has {problem.fixed:,} fixed parameters",
        smallest=smallest,
    )
