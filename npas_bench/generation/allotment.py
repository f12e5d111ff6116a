"""Sharing a budget out among parameter groups, in proportion to the weights they make (Plummer et al. 2022, 3.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from npas_bench.generation.plan import largest_store, overhead, smallest_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.generation.plan import Reader, Variant
    from npas_bench.layers import Layer

# Share of what there is that may stay unused without a word.
_NOTABLE = 0.005


def is_notable(unused: int, total: int) -> bool:
    """Whether so much of `total` scalars is unused that a remark should say why."""
    return unused > _NOTABLE * total


class Request:
    """What a group needs, and can use, of a budget.

    Args:
        readers: that share the group's store.
        variant: how they read it.
    """

    def __init__(self, readers: Sequence[Reader], variant: Variant) -> None:
        self.readers = tuple(readers)
        # A lone reader without variants of itself gains nothing from a mixture: its store is its weight.
        alone = len(self.readers) == 1 and self.readers[0].rows == 1
        self.variant = replace(variant, templates=1) if alone else variant

    @property
    def weights(self) -> int:
        """Scalars of the weights that the group makes."""
        return sum(reader.size * reader.rows for reader in self.readers)

    @cached_property
    def smallest(self) -> int:
        """The fewest scalars the group can do with."""
        return smallest_cost(self.readers, self.variant)

    @cached_property
    def largest(self) -> int:
        """The most it can use; a larger store would not be read whole."""
        plenty = 2 * self.variant.templates * sum(reader.size for reader in self.readers)
        return self.cost(self.store(plenty + overhead(self.readers, plenty, self.variant)))

    def store(self, available: int) -> int:
        """The largest store that `available` scalars, at least `smallest` of them, pay for."""
        found = largest_store(self.readers, available, self.variant)
        if found is None:
            raise ValueError(f"{available} scalars are less than the group needs")
        return found

    def cost(self, store: int) -> int:
        """Scalars of a store and of what goes with it."""
        return store + overhead(self.readers, store, self.variant)


class Allotment(NamedTuple):
    """Stores of groups, and why some of what was available is unused (None: nothing to speak of is)."""

    stores: tuple[int, ...]
    remark: str | None


def allot(requests: Sequence[Request], available: int) -> Allotment | None:
    """StoreShare `available` scalars out among groups; None if they cannot all have what they need.

    Each gets its part in proportion to its weights, within what it needs and can use; what granularity
    leaves over goes to whoever can still use it.
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
    return Allotment(tuple(stores), _remark(requests, stores, available, left))


class Apportionment(NamedTuple):
    """Groups of layers that can all have what they need, and what each of them gets.

    Attributes:
        groups: the groups, which cover all layers; fewer than were wanted where not all could be afforded.
        requests: what each group asked for.
        stores: scalars of each group's store.
        remark: why some of what was available is unused (None: hardly any is).
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
    """The groups, the two with the fewest weights merged again and again until all can have what they need.

    Args:
        groups: of layers.
        request: what a group of layers needs.
        order: all layers, in network order; groups are given back in the order of their first layers.
        available: scalars to share; what a single group of all layers needs, at least.
    """
    place = {layer.name: index for index, layer in enumerate(order)}

    def sort(group: Sequence[Layer]) -> tuple[Layer, ...]:
        return tuple(sorted(group, key=lambda layer: place[layer.name]))

    merged = [sort(group) for group in groups]
    while True:
        # In network order, so that of groups of one size always the same are merged.
        merged.sort(key=lambda group: place[group[0].name])
        if len(merged) == 1 or sum(request(group).smallest for group in merged) <= available:
            return merged
        first, second, *rest = sorted(merged, key=lambda group: sum(layer.size for layer in group))
        merged = [sort(first + second), *rest]


def _parts(requests: Sequence[Request], available: int) -> list[int]:
    """Proportional parts, but none below what a group needs or above what it can use."""
    parts: dict[int, int] = {}
    rest = available
    while len(parts) < len(requests):
        free = [i for i in range(len(requests)) if i not in parts]
        weights = sum(requests[i].weights for i in free)
        wanted = {i: rest * requests[i].weights // weights for i in free}
        short = {i: requests[i].smallest for i in free if wanted[i] < requests[i].smallest}
        over = {i: requests[i].largest for i in free if wanted[i] > requests[i].largest}
        # What the needy take beyond their part and what the sated leave must both be known before the rest is
        # shared; the larger of the two is settled first.
        lacking = sum(short[i] - wanted[i] for i in short)
        excess = sum(wanted[i] - over[i] for i in over)
        settled = (short if lacking >= excess else over) if short or over else wanted
        parts |= settled
        rest -= sum(settled.values())
    return [parts[i] for i in range(len(requests))]


def _remark(requests: Sequence[Request], stores: Sequence[int], available: int, left: int) -> str | None:
    if all(request.cost(store) >= request.largest for request, store in zip(requests, stores, strict=True)):
        if is_notable(left, available):
            capped = "store is" if len(stores) == 1 else "stores are"
            return f"the {capped} capped at the {sum(stores):,} scalars that the layers read"
        return None
    if is_notable(left, available):
        return f"{left:,} parameters are unused: any larger store needs more coefficients or masks than that"
    return None
