"""Allocations: what a sharing method made for one network."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from npas_bench.budget import Role
from npas_bench.generation.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npas_bench.generation.engine import Generation, Replaced


class Reading(NamedTuple):
    """What one layer reads of a method's stores.

    Attributes:
        layer: the layer's name.
        group: which parameter group, store or SuperWeight it reads.
        start: first scalar it reads there.
        size: scalars of one template.
        templates: how many templates, one behind the other.
        rule: how its weight comes out of them, in the papers' words.
        coefficients: that the templates are mixed with, as they are now; None where there are none.
    """

    layer: str
    group: int
    start: int
    size: int
    templates: int
    rule: str
    coefficients: tuple[float, ...] | None = None


def read_coefficients(values: Tensor) -> tuple[float, ...] | None:
    """Coefficients for a picture, four digits of each; None in a preview, which has no values."""
    if values.is_meta:
        return None
    return tuple(float(f"{value:.4g}") for value in values.detach().reshape(-1).tolist())


# Methods by the names that they had at first, with those of today.
_RENAMED = {"sums": "epoch_sums"}


class Adaptive:
    """What networks and allocations alike tell of themselves, and what may change them between epochs.

    A network whose weights an allocation generates hands all of it on to the allocation.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give methods of plugins that were written when they had other names the names that they have today."""
        super().__init_subclass__(**kwargs)
        for old, new in _RENAMED.items():
            if callable(cls.__dict__.get(old)) and new not in cls.__dict__:
                where = f"{cls.__module__}.{cls.__qualname__}"
                warnings.warn(f"{where}: {old}() is now called {new}()", DeprecationWarning, stacklevel=2)
                setattr(cls, new, cls.__dict__[old])

    def sharing(self) -> tuple[Reading, ...]:
        """Which layers read which parameters, for ledgers and pictures; empty if nothing is said about it."""
        return ()

    def structure(self) -> dict[str, Any]:
        """What a search or a refinement decided, as JSON; the same is rebuilt from it without searching again."""
        return {}

    def remark(self) -> str | None:
        """Why some of the store is dead or some of the budget unused; None where neither is so."""
        return None

    def reserved(self) -> int:
        """How many scalars changes between epochs may still add: the budget must pay for them from the start."""
        return 0

    def before_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare for epoch `epoch` of `epochs`, counted from 0, which is about to be trained."""

    def epoch_sums(self) -> list[Tensor]:
        """What was summed up over the epoch, before `after_epoch`.

        Where several processes train the epoch together, the sums of all are added up in place.
        """
        return []

    def after_epoch(self, epoch: int, epochs: int) -> list[Replaced]:
        """Change what has to change after epoch `epoch` of `epochs`.

        Returns:
            Parameters that gave way to others, so that the optimiser follows.
        """
        return []


class Allocation(Adaptive, nn.Module, ABC):
    """What a sharing method made for one network: parameters, and how layers' weights come from them.

    It registers every parameter of the method once. `weight` is the only thing it must define.
    """

    @abstractmethod
    def weight(self, layer: str) -> Tensor:
        """The weight of the layer called `layer`: the layer's shape, differentiable in the parameters."""

    def role(self, parameter: str) -> Role:
        """What the allocation's parameter of this name is for: a store unless it says otherwise."""
        return Role.STORE


class RuledAllocation(Allocation):
    """An allocation whose weights are made by rules, so that the engine can make and differentiate them.

    `generation` is the only thing it must define.
    """

    @abstractmethod
    def generation(self, layer: str) -> Generation:
        """The rule that makes the weight of the layer called `layer`, and what it makes it from."""

    def weight(self, layer: str) -> Tensor:
        """The layer's weight in ordinary differentiable operations, without the engine."""
        return self.generation(layer).make()

    def stores(self) -> list[Tensor]:
        """The parameters that rules read as stores."""
        return [p for name, p in self.named_parameters() if self.role(name) is Role.STORE]


class GroupedAllocation(RuledAllocation):
    """An allocation of parameter groups.

    Args:
        groups: the groups, in the order in which `Reading` counts them.
        remark: why some of the budget is unused.
    """

    def __init__(self, groups: Iterable[Group], remark: str | None = None) -> None:
        super().__init__()
        self._groups = tuple(groups)
        self.groups = nn.ModuleList(self._groups)
        self._remark = remark

    def role(self, parameter: str) -> Role:
        """As groups say."""
        return Group.role(parameter.split(".", 2)[2])

    def remark(self) -> str | None:
        """Why some of the budget is unused."""
        return self._remark
