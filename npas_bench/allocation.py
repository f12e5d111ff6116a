"""Allocations: what a sharing method made for one network."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import override

from npas_bench.budget import Role
from npas_bench.generation.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npas_bench.generation.engine import Generation, Replaced


class Reading(NamedTuple):
    """What one layer reads of a method's stores.

    Attributes:
        layer: name of the layer.
        group: number of the parameter group, store or SuperWeight Cluster that the layer reads.
        start: position of the first scalar that it reads there.
        size: scalars of one template.
        templates: number of templates, which follow one another.
        rule: how the weight is made from them, in the papers' words.
        coefficients: the coefficients that the templates are mixed with now; None where there are none.
    """

    layer: str
    group: int
    start: int
    size: int
    templates: int
    rule: str
    coefficients: tuple[float, ...] | None = None


def read_coefficients(values: Tensor) -> tuple[float, ...] | None:
    """Coefficients for a picture, with four digits each; None in a preview, which has no values."""
    if values.is_meta:
        return None
    return tuple(float(f"{value:.4g}") for value in values.detach().reshape(-1).tolist())


# Methods by the names that they had at first, with those of today.
_RENAMED = {"sums": "epoch_sums"}


class Adaptive:
    """What networks and allocations have in common: they describe what they share, and may change between epochs.

    A network whose weights an allocation generates passes all of these calls on to the allocation.
    """

    @override
    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give methods that a plugin defines under the names they had at first their present names."""
        super().__init_subclass__(**kwargs)
        for old, new in _RENAMED.items():
            if callable(cls.__dict__.get(old)) and new not in cls.__dict__:
                where = f"{cls.__module__}.{cls.__qualname__}"
                warnings.warn(f"{where}: {old}() is now called {new}()", DeprecationWarning, stacklevel=2)
                setattr(cls, new, cls.__dict__[old])

    def sharing(self) -> tuple[Reading, ...]:
        """Which layers read which parameters, for pictures; empty without sharing, or if a method does not say."""
        return ()

    def structure(self) -> dict[str, Any]:
        """What a search or a refinement decided, as JSON, so that the same can be built again without a search."""
        return {}

    def remark(self) -> str | None:
        """Why some of what is trained is dead, or some of the budget unused; None where neither is the case."""
        return None

    def reserved(self) -> int:
        """How many scalars later changes may still add; the budget has to pay for them from the start."""
        return 0

    def before_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare for epoch `epoch` of `epochs`, counted from 0, which is trained next."""

    def epoch_sums(self) -> list[Tensor]:
        """The tensors that were summed up over the epoch; they are asked for before `after_epoch`.

        Where several processes train the epoch together, the sums of all of them are added up in place.
        """
        return []

    def after_epoch(self, epoch: int, epochs: int) -> list[Replaced]:
        """Make the changes that are due after epoch `epoch` of `epochs`, counted from 0.

        Returns:
            The parameters that gave way to others, so that the optimiser can follow.
        """
        return []


class Allocation(Adaptive, nn.Module, ABC):
    """What a sharing method made for one network: parameters, and how the layers' weights are made from them.

    An allocation registers every parameter of the method once. It has to define `weight` and nothing else.
    """

    @abstractmethod
    def weight(self, layer: str) -> Tensor:
        """The weight of the layer called `layer`, in the layer's shape, differentiable in the parameters."""

    def role(self, parameter: str) -> Role:
        """The role of the allocation's parameter of this name, which is a store unless a method says otherwise."""
        return Role.STORE


class RuledAllocation(Allocation):
    """An allocation whose weights are made by rules, so that the engine can make and differentiate them.

    It has to define `generation` and nothing else.
    """

    @abstractmethod
    def generation(self, layer: str) -> Generation:
        """The rule that makes the weight of the layer called `layer`, and what the weight is made from."""

    @override
    def weight(self, layer: str) -> Tensor:
        """The layer's weight, made in ordinary differentiable operations without the engine."""
        return self.generation(layer).make()

    def stores(self) -> list[Tensor]:
        """The parameters that the rules use as stores."""
        return [p for name, p in self.named_parameters() if self.role(name) is Role.STORE]


class GroupedAllocation(RuledAllocation):
    """An allocation of parameter groups.

    Args:
        groups: the groups, in the order that `Reading.group` counts them in.
        remark: why some of the budget is unused.
    """

    def __init__(self, groups: Iterable[Group], remark: str | None = None) -> None:
        super().__init__()
        self._groups = tuple(groups)
        self.groups = nn.ModuleList(self._groups)
        self._remark = remark

    @override
    def role(self, parameter: str) -> Role:
        """The role of a parameter within its group."""
        return Group.role(parameter.split(".", 2)[2])

    @override
    def remark(self) -> str | None:
        """Why some of the budget is unused."""
        return self._remark
