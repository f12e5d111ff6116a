"""How a budget is shared out among parameter groups, in proportion to their weights (Plummer et al. 2022, 3.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.plan import dead_masks, largest_store, overhead, smallest_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.generation.plan import Reader, Variant
    from npas_bench.layers import Layer

# Share of the scalars that may stay unused without a remark.
_NOTABLE = 0.005


def is_notable(unused: int, total: int) -> bool:
    """Tell whether so much of `total` scalars is unused that a remark should say why."""
    return unused > _NOTABLE * total


class Request:
    """What a parameter group needs of a budget, and what it can use.

    Args:
        readers: the readers that share the group's store.
        variant: how the readers read the store.
    """

    def __init__(self, readers: Sequence[Reader], variant: Variant) -> None:
        self.readers = tuple(readers)
        # A reader that is alone and has one row gains nothing from mixing templates: its store is its weight.
        alone = len(self.readers) == 1 and self.readers[0].rows == 1
        self.variant = replace(variant, templates=1) if alone else variant

    @property
    def weights(self) -> int:
        """Number of scalars of all weights that the group makes."""
        return sum(reader.size * reader.rows for reader in self.readers)

    @cached_property
    def smallest(self) -> int:
        """The fewest scalars the group can do with."""
        return smallest_cost(self.readers, self.variant)

    @cached_property
    def largest(self) -> int:
        """The most scalars that the group can use; a larger store would not be read whole."""
        plenty = 2 * self.variant.templates * sum(reader.size for reader in self.readers)
        return self.cost(self.store(plenty + overhead(self.readers, plenty, self.variant)))

    def store(self, available: int) -> int:
        """Scalars of the largest store that `available` scalars pay for.

        Raises:
            ValueError: if `available` is less than `smallest`.
        """
        found = largest_store(self.readers, available, self.variant)
        if found is None:
            raise ValueError(f"{available} scalars are less than the group needs")
        return found

    def dead(self, store: int) -> int:
        """Trainable scalars that go with a store of `store` scalars and reach no weight."""
        return dead_masks(self.readers, store, self.variant)

    def cost(self, store: int) -> int:
        """Trainable scalars that a store of `store` scalars comes to, with everything that goes with it."""
        return store + overhead(self.readers, store, self.variant)


class Allotment(NamedTuple):
    """What groups get of a budget.

    Attributes:
        stores: number of scalars of each group's store.
        remark: why some of what was available is unused, or reaches no weight; None where hardly any is unused and
            all reaches a weight.
    """

    stores: tuple[int, ...]
    remark: str | None


def allot(requests: Sequence[Request], available: int) -> Allotment | None:
    """Share `available` scalars out among groups; None if they cannot all have what they need.

    Each group gets a part in proportion to its weights, but no less than it needs and no more than it can use. What is
    left over, because stores grow in steps, goes to the groups that can still use it.
    """
    if sum(request.smallest for request in requests) > available:
        return None
    stores = [request.store(part) for request, part in zip(requests, _parts(requests, available), strict=True)]
    while True:
        left = available - sum(request.cost(store) for request, store in zip(requests, stores, strict=True))
        for index in sorted(range(len(requests)), key=lambda i: -requests[i].weights) if left else ():
            larger = requests[index].store(requests[index].cost(stores[index]) + left)
            if larger > stores[index]:
                stores[index] = larger
                break
        else:
            break
    remarks = (_unused(requests, stores, available, left), _dead(requests, stores))
    return Allotment(tuple(stores), "; ".join(r for r in remarks if r) or None)


class Apportionment(NamedTuple):
    """Groups of layers that can all have what they need, and what each of them gets.

    Attributes:
        groups: the groups, which cover all layers; fewer than were wanted where not all could be afforded.
        requests: what each group asked for.
        stores: scalars of each group's store.
        remark: what the allotment remarks.
    """

    groups: list[tuple[Layer, ...]]
    requests: list[Request]
    stores: tuple[int, ...]
    remark: str | None

    def shortfall(self, kind: str, wanted: int) -> str | None:
        """A remark that there are fewer groups than were wanted; None if there are not.

        Args:
            kind: what the method calls its groups, in the plural.
            wanted: how many groups it wanted.
        """
        count = len(self.groups)
        return f"{count} {kind}, as the budget does not suffice for {wanted}" if count < wanted else None


def apportion(
    groups: Sequence[Sequence[Layer]],
    request: Callable[[Sequence[Layer]], Request],
    order: Sequence[Layer],
    available: int,
) -> Apportionment:
    """Share `available` scalars out among groups of layers, after merging groups until all can have what they need.

    Args:
        groups: the groups that are wanted.
        request: gives what a group of layers needs.
        order: all layers, in network order.
        available: scalars to share out; at least what a single group of all layers needs.

    Raises:
        ValueError: if even a single group of all layers needs more than is available.
    """
    affordable = merge_until_affordable(groups, request, order, available)
    requests = [request(group) for group in affordable]
    found = allot(requests, available)
    if found is None:
        raise ValueError(f"{available} scalars are less than a single group of all layers needs")
    return Apportionment(affordable, requests, found.stores, found.remark)


def merge_until_affordable(
    groups: Sequence[Sequence[Layer]],
    request: Callable[[Sequence[Layer]], Request],
    order: Sequence[Layer],
    available: int,
) -> list[tuple[Layer, ...]]:
    """Merge the two groups with the fewest weights, again and again, until all groups can have what they need.

    Args:
        groups: groups of layers.
        request: gives what a group of layers needs.
        order: all layers, in network order; groups are returned in the order of their first layers.
        available: scalars to share out; at least what a single group of all layers needs.
    """
    place = {layer.name: index for index, layer in enumerate(order)}

    def sort(group: Sequence[Layer]) -> tuple[Layer, ...]:
        return tuple(sorted(group, key=lambda layer: place[layer.name]))

    merged = [sort(group) for group in groups]
    while True:
        # Network order decides which of several groups of one size are merged.
        merged.sort(key=lambda group: place[group[0].name])
        if len(merged) == 1 or sum(request(group).smallest for group in merged) <= available:
            return merged
        first, second, *rest = sorted(merged, key=lambda group: sum(layer.size for layer in group))
        merged = [sort(first + second), *rest]


def _parts(requests: Sequence[Request], available: int) -> list[int]:
    """Each group's part in proportion to its weights, but no less than it needs and no more than it can use."""
    parts: dict[int, int] = {}
    rest = available
    while len(parts) < len(requests):
        free = [i for i in range(len(requests)) if i not in parts]
        weights = sum(requests[i].weights for i in free)
        wanted = {i: rest * requests[i].weights // weights for i in free}
        short = {i: requests[i].smallest for i in free if wanted[i] < requests[i].smallest}
        over = {i: requests[i].largest for i in free if wanted[i] > requests[i].largest}
        # Some groups need more than their part, others can use only less. The rest can be shared out when both are
        # known; whichever comes to more is settled first.
        lacking = sum(short[i] - wanted[i] for i in short)
        excess = sum(wanted[i] - over[i] for i in over)
        settled = (short if lacking >= excess else over) if short or over else wanted
        parts |= settled
        rest -= sum(settled.values())
    return [parts[i] for i in range(len(requests))]


def _dead(requests: Sequence[Request], stores: Sequence[int]) -> str | None:
    dead = sum(request.dead(store) for request, store in zip(requests, stores, strict=True))
    if not dead:
        return None
    which = "1 parameter of the masks reaches" if dead == 1 else f"{dead:,} parameters of the masks reach"
    return f"{which} no weight: the tiles that they are for are narrower than a mask"


def _unused(requests: Sequence[Request], stores: Sequence[int], available: int, left: int) -> str | None:
    if all(request.cost(store) >= request.largest for request, store in zip(requests, stores, strict=True)):
        if is_notable(left, available):
            capped = "store is" if len(stores) == 1 else "stores are"
            return f"the {capped} capped at the {sum(stores):,} scalars that the layers read"
        return None
    if is_notable(left, available):
        return f"{left:,} parameters are unused: any larger store needs more coefficients or masks than that"
    return None
