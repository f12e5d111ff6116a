"""Numbers that training changes outside of a network's parameters and buffers, where no ledger counts them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from npas_bench.errors import UncountedValues
from npas_bench.loose_places import Area, Found, loose_places
from npas_bench.torch_internals import depends_on_nodes_before, newest_node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from npas_bench.loose_content import LooseValue

_SHOWN = 3


class LooseValues:
    """The numbers outside of a network's parameters and buffers, from the beginning of its training on.

    What the network itself holds may neither change nor be new. Elsewhere, something new may be a constant that is made
    when it is first used: there, numbers count that change between two looks. The result of an operation that a
    gradient is taken through follows from what is counted, and counts only if it carries on what was there at the look
    before.

    Args:
        network: the network before its training, with all its modules.
        method: name of the method that made it, for messages.
        packages: names of the modules and packages that its cell's plugins consist of, whose globals are looked at.
    """

    def __init__(self, network: nn.Module, method: str, packages: Iterable[str] = ()) -> None:
        self._method, self._packages = method, tuple(packages)
        self._before: dict[str, LooseValue] = {}
        self._noted: dict[tuple[str, int], bytes] = {}
        self._seen: set[tuple[str, bytes]] = set()
        places = list(loose_places(network, self._packages))
        self._before = {one.path: one.value for one in places}
        self._note(places)

    def look(self, network: nn.Module) -> None:
        """Note what is there after some of the training, such as constants that were made when they were first used."""
        self._note(list(loose_places(network, self._packages)))

    def refuse_changed(self, network: nn.Module) -> None:
        """Refuse a network of which training changed numbers that nothing counts.

        Args:
            network: the network after some of its training.

        Raises:
            UncountedValues: if there are such numbers; the message names the method and the places.
        """
        places = list(loose_places(network, self._packages))
        changed = {one.path: one.value for one in places if self._is_changed(one)}
        self._note(places)
        if changed:
            names = ", ".join(list(changed)[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
            count = sum(value.scalars for value in changed.values())
            scalars = "1 scalar" if count == 1 else f"{count:,} scalars"
            raise UncountedValues(
                f"method {self._method}: training changed {scalars} outside of all parameters and buffers ({names}), "
                "which no budget counts: make them parameters or registered buffers, or drop them at the end of each "
                "forward pass"
            )

    def _is_changed(self, one: Found) -> bool:
        if one.area is Area.own:
            return self._before.get(one.path) != one.value
        # A constant that moved to another place, as in a queue, is still one.
        noted = self._noted.get((one.path, one.value.scalars), one.value.digest)
        if noted == one.value.digest or _wherever(one) in self._seen:
            return False
        return one.tensor is None or depends_on_nodes_before(one.tensor, self._newest)

    def _note(self, places: list[Found]) -> None:
        for one in places:
            self._noted.setdefault((one.path, one.value.scalars), one.value.digest)
            self._seen.add(_wherever(one))
        self._newest = newest_node()


def _wherever(one: Found) -> tuple[str, bytes]:
    """A value in whichever place of a list it is."""
    return re.sub(r"\[\d+\]", "[]", one.path), one.value.digest
