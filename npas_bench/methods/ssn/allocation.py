"""The allocation of SSN: parameter groups, and which layers belong to which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from npas_bench.allocation import GroupedAllocation, Reading, read_coefficients
from npas_bench.generation.group import Group
from npas_bench.generation.plan import reader_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from npas_bench.generation.engine import Generation
    from npas_bench.generation.plan import Variant
    from npas_bench.layers import Layer


class GroupPlan(NamedTuple):
    """A parameter group to make.

    Attributes:
        layers: the layers of the group, in network order.
        store: scalars of the store, the papers' |theta|; coefficients and masks come on top.
        variant: how the layers read the store.
    """

    layers: tuple[Layer, ...]
    store: int
    variant: Variant


class SSNAllocation(GroupedAllocation):
    """Parameter groups that the layers' weights are generated from.

    Args:
        groups: the groups; every layer is in one of them.
        remark: why some of the budget is unused.
        mapping: number of each layer's group, by name, as a search found them; there may be more groups than the
            budget can pay for.
    """

    def __init__(
        self, groups: Sequence[GroupPlan], remark: str | None = None, mapping: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(
            (Group([reader_of(layer) for layer in plan.layers], plan.store, plan.variant) for plan in groups), remark
        )
        self._mapping = dict(mapping or {})
        self._group_of = {layer.name: index for index, plan in enumerate(groups) for layer in plan.layers}

    @override
    def generation(self, layer: str) -> Generation:
        """How the layer's weight is made: from templates if its store has enough scalars, else by upsampling."""
        return self._groups[self._group_of[layer]].generation(layer)

    @override
    def sharing(self) -> tuple[Reading, ...]:
        """What each layer reads of which store, and by which rule."""
        found = []
        for layer, index in self._group_of.items():
            group = self._groups[index]
            share, mixture = group.shares[layer], group.mixture(layer)
            found.append(
                Reading(
                    layer,
                    index,
                    share.start,
                    share.size,
                    share.templates,
                    group.how(layer),
                    None if mixture is None else read_coefficients(mixture),
                )
            )
        return tuple(found)

    @override
    def structure(self) -> dict[str, Any]:
        """The mapping that a search found."""
        return {"mapping": self._mapping} if self._mapping else {}
