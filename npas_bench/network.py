"""Networks to train: plain ones, and architectures whose weights an allocation generates.

A generated network consists of the architecture, with its layers' weights taken out, and the allocation that makes
these weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from npas_bench.allocation import Adaptive, RuledAllocation
from npas_bench.budget import Ledger, Role, count_scalars
from npas_bench.layers import Layer, find_sites
from npas_bench.seeding import generator
from npas_bench.torch_internals import is_normalisation
from npas_bench.weights import WeightSource, take_weights_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from npas_bench.allocation import Allocation, Reading
    from npas_bench.generation.engine import Replaced
    from npas_bench.generation.rules import Rule


class Network(Adaptive, nn.Module, ABC):
    """What a method makes of an architecture and a budget: a module that is ready to be trained."""

    @abstractmethod
    def roles(self) -> dict[str, Role]:
        """The role of every trainable parameter, by the parameter's name in this network."""

    @abstractmethod
    def materialise(self, into: nn.Module) -> nn.Module:
        """Write this network's weights into a plain network of its architecture.

        Args:
            into: a freshly built module of the architecture, which is changed in place.

        Returns:
            `into`, which computes what this network computes, without any trace of the method.

        Raises:
            ValueError: if `into` is not of this network's architecture.
        """

    def ledger(self, budget: int) -> Ledger:
        """The ledger of what this network trains; on the meta device it can be counted too, but without `reach`."""
        counts = {role.value: count for role, count in self.count().items()}
        return Ledger(**counts, reserved=self.reserved(), budget=budget, reach=self.reach(), remark=self.remark())

    def count(self) -> dict[Role, int]:
        """Number of trainable scalars by role; each scalar of a storage counts once."""
        return count_scalars(((name, p) for name, p in self.named_parameters() if p.requires_grad), self.roles())

    def reach(self) -> float | None:
        """Share of what makes weights that reaches some layer's weight; None where it is not known."""
        return None

    def generation_flops(self) -> int | None:
        """Floating-point operations of making all weights once: 0 where none is made, None where it is not known."""
        return 0

    def state_names(self) -> list[str]:
        """Names of the tensors that count only if training changes them.

        These are all tensors except trainable parameters and normalisation statistics.
        """
        statistics = {
            f"{path}.{name}" if path else name
            for path, module in self.named_modules()
            for name in _normalisation_statistics(path, module)
        }
        frozen = [name for name, p in self.named_parameters() if not p.requires_grad]
        return frozen + [name for name, _ in self.named_buffers() if name not in statistics]


def running_statistics(network: Network) -> list[tuple[Tensor, float]]:
    """The buffers that hold statistics of normalisation, each with the momentum that it is updated with."""
    return [
        (getattr(module, name), float(getattr(module, "momentum", None) or 0.0))
        for path, module in network.named_modules()
        for name in _normalisation_statistics(path, module)
        if getattr(module, name) is not None
    ]


def _normalisation_statistics(path: str, module: nn.Module) -> tuple[str, ...]:
    """Names of a module's buffers that hold statistics of its inputs for evaluation.

    An architecture's own kind of normalisation names them in `normalisation_statistics`. A method's modules have none.
    """
    if is_normalisation(module):
        return ("running_mean", "running_var", "num_batches_tracked")
    named: tuple[str, ...] = getattr(module, "normalisation_statistics", ())
    return named if path.partition(".")[0] == "architecture" else ()


class PlainNetwork(Network):
    """An architecture that trains its own weights.

    Args:
        architecture: the module to train.
        remark: the method's remark on its use of the budget.
    """

    def __init__(self, architecture: nn.Module, remark: str | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self._remark = remark

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the architecture."""
        return self.architecture(*args, **kwargs)

    @override
    def roles(self) -> dict[str, Role]:
        """The role of every parameter: a layer's weight is a store of its own, and everything else is fixed."""
        return _plain_roles(self.architecture)

    @override
    def reach(self) -> float | None:
        """The share of the stores that reaches a layer: 1, since every weight is its layer's own."""
        return 1.0

    @override
    def remark(self) -> str | None:
        """The remark that was given."""
        return self._remark

    @override
    def materialise(self, into: nn.Module) -> nn.Module:
        """Copy the parameters and buffers over."""
        into.load_state_dict(self.architecture.state_dict())
        return into


class GeneratedNetwork(Network):
    """An architecture whose layers' weights come from an allocation.

    Args:
        architecture: a freshly built module, which is changed in place: its layers' weights are taken out.
        layers: the layers to generate; all others keep their own weights, which count as stores of their own.
        allocation: the allocation that generates a weight for each of `layers`.
        regenerate_in_backward: whether generated weights are made again in the backward pass instead of being kept for
            it. This takes less memory and a little more time, and changes no result. It may be switched at any time.

    The classes of the architecture's modules are replaced by subclasses that cannot be pickled: save state dicts, and
    export by `materialise`.
    """

    def __init__(
        self,
        architecture: nn.Module,
        layers: Iterable[Layer],
        allocation: Allocation,
        *,
        regenerate_in_backward: bool = False,
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.architecture = architecture
        self.allocation = allocation
        self._source = WeightSource(allocation, self.layers, regenerate=regenerate_in_backward)
        take_weights_out(architecture, {layer.name for layer in self.layers}, self._source)

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the architecture on generated weights."""
        with self._source.forward_pass():
            return self.architecture(*args, **kwargs)

    @property
    def regenerate_in_backward(self) -> bool:
        """Tell whether generated weights are made again in the backward pass instead of being kept for it."""
        return self._source.regenerate

    @regenerate_in_backward.setter
    def regenerate_in_backward(self, regenerate: bool) -> None:
        self._source.regenerate = regenerate

    def weight_gradients(self) -> AbstractContextManager[dict[str, Tensor]]:
        """A context in which the gradient of each generated weight is summed over all backward passes, by layer."""
        return self._source.gradients()

    @override
    def roles(self) -> dict[str, Role]:
        """The role of every parameter, of the architecture's plain part and of the allocation."""
        own = {f"allocation.{name}": self.allocation.role(name) for name, _ in self.allocation.named_parameters()}
        return _plain_roles(self.architecture) | own

    @override
    def remark(self) -> str | None:
        """The allocation's remark on its use of the budget."""
        return self.allocation.remark()

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """Which layers read which of the allocation's parameters."""
        return self.allocation.sharing()

    @override
    def structure(self) -> dict[str, Any]:
        """What the allocation's search or refinement decided."""
        return self.allocation.structure()

    @override
    def generation_flops(self) -> int | None:
        """Floating-point operations of making all weights once, as the rules count them; None without rules."""
        if not isinstance(self.allocation, RuledAllocation):
            return None
        rules: dict[object, Rule] = {}
        for layer in self.layers:
            generation = self.allocation.generation(layer.name)
            # A weight that several layers share is made once.
            key: object = layer.name if generation.shared is None else ("shared", generation.shared)
            rules.setdefault(key, generation.rule)
        return sum(rule.flops for rule in rules.values())

    @override
    def reserved(self) -> int:
        """How many scalars the allocation reserves for later changes."""
        return self.allocation.reserved()

    @override
    def before_epoch(self, epoch: int, epochs: int) -> None:
        """Let the allocation prepare for the epoch."""
        self.allocation.before_epoch(epoch, epochs)

    @override
    def epoch_sums(self) -> list[Tensor]:
        """The tensors that the allocation summed up over the epoch."""
        return self.allocation.epoch_sums()

    @override
    def after_epoch(self, epoch: int, epochs: int) -> list[Replaced]:
        """Let the allocation make its changes after the epoch; returns the parameters that gave way to others."""
        return self.allocation.after_epoch(epoch, epochs)

    @override
    def reach(self) -> float | None:
        """Share of the scalars that the allocation trains which some weight depends on; None on the meta device.

        Stores, coefficients, masks and generators count alike, and so do weights that are not generated, all of which
        are their layers' own.
        """
        trained = [p for p in self.allocation.parameters() if p.requires_grad]
        if not trained or any(p.is_meta for p in trained):
            return None
        draw = generator("reach")
        alive = [torch.zeros_like(p, dtype=torch.bool) for p in trained]
        self._mark_alive(trained, alive, draw)
        if not _all_true(alive):
            # Where a factor starts at zero, the other factors of its product have no gradient yet.
            with _random_values(trained, draw):
                self._mark_alive(trained, alive, draw)
        plain: int = sum(getattr(site.owner, site.attribute).numel() for site in find_sites(self.architecture))
        reaching = sum(int(reached.sum()) for reached in alive)
        return (reaching + plain) / (sum(p.numel() for p in trained) + plain)

    def _mark_alive(self, trained: list[nn.Parameter], alive: list[Tensor], draw: torch.Generator) -> None:
        """Mark the scalars of parameters that a random positive sum of all weights' scalars has a gradient in."""
        # The probes are positive, so that gradients of a scalar that is read at several positions do not cancel out.
        # Where signs come in between, as with hashing, they may cancel out, but not a second and a third time.
        for _ in range(3):
            for reached, gradient in zip(alive, self._probe(trained, draw), strict=True):
                if gradient is not None:
                    reached |= gradient != 0
            if _all_true(alive):
                break

    def _probe(self, trained: list[nn.Parameter], draw: torch.Generator) -> tuple[Tensor | None, ...]:
        """Gradients of a random positive sum of all weights' scalars; None for a parameter that no weight reads."""
        with torch.enable_grad(), self._source.forward_pass():
            objective = sum(
                (weight * (0.5 + torch.rand(weight.shape, generator=draw).to(weight))).sum()
                for weight in (self._source.weight(layer.name) for layer in self.layers)
            )
            if not isinstance(objective, Tensor) or not objective.requires_grad:
                return (None,) * len(trained)
            return torch.autograd.grad(objective, trained, allow_unused=True)

    @torch.no_grad()
    @override
    def materialise(self, into: nn.Module) -> nn.Module:
        """Copy what the architecture itself holds, and write the generated weights over the rest."""
        targets = {site.layer: getattr(site.owner, site.attribute) for site in find_sites(into)}
        own = self.architecture.state_dict()
        generated = {layer.name for layer in self.layers}
        # Buffers that are not persistent, such as position numbers, are made with the module and in no state dict.
        buffers = {name for name, _ in into.named_buffers()} & into.state_dict().keys()
        expected = {name for name, _ in into.named_parameters()} | buffers
        if generated - targets.keys() or expected - generated - own.keys():
            raise ValueError("the module to write into is not of this network's architecture")
        into.load_state_dict(own, strict=False)
        for name in generated:
            targets[name].copy_(self.allocation.weight(name))
        return into


def _all_true(masks: Iterable[Tensor]) -> bool:
    return all(bool(mask.all()) for mask in masks)


@contextmanager
@torch.no_grad()
def _random_values(parameters: Iterable[nn.Parameter], draw: torch.Generator) -> Iterator[None]:
    """A context in which parameters have random values other than zero; afterwards they have their own again."""
    own = [(parameter, parameter.detach().clone()) for parameter in parameters]
    try:
        for parameter, value in own:
            parameter.copy_(0.5 + torch.rand(value.shape, generator=draw).to(value))
        yield
    finally:
        for parameter, value in own:
            parameter.copy_(value)


def _plain_roles(architecture: nn.Module) -> dict[str, Role]:
    weights = {site.layer for site in find_sites(architecture)}
    return {
        f"architecture.{name}": Role.STORE if name in weights else Role.FIXED
        for name, _ in architecture.named_parameters()
    }


def changed_state(before: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The tensors that training changed or made without their being parameters or normalisation statistics.

    Args:
        before: copies of `state_tensors(network)` that were made before training.
        network: the network after training.
    """
    return {
        name: tensor
        for name, tensor in state_tensors(network).items()
        if name not in before or not torch.equal(before[name].to(tensor.device), tensor)
    }


def state_tensors(network: Network) -> dict[str, Tensor]:
    """The tensors that count only if training changes them, by their names."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: tensors[name].detach() for name in network.state_names()}
