"""Budgets: parsing them, counting what a network trains, refusing what is over.

A budget bounds **every** trainable scalar of a network: fixed parameters (biases, normalisation,
embedding tables), stores, coefficients, masks and generators. State that training changes beyond
normalisation statistics counts too, whether or not it is a parameter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from npas_bench.errors import BudgetError, OverBudget
from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

_PATTERN = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>%|x|k|M|G)?", re.ASCII)
_SCALE = {"k": 10**3, "M": 10**6, "G": 10**9}
# What a database's integers hold, and more parameters than any network will have.
LARGEST = 2**62
_LONGEST = 40
_FORMS = "write it as 10%, 4x, 3.65M, 365k or 365000"


@dataclass(frozen=True)
class Budget:
    """The number of trainable scalars a network may have in total.

    Attributes:
        text: the budget as it was written, `10%`, `4x`, `3.65M`, `365k` or `365000`.
        amount: the number in `text`, exactly; of the full architecture's parameters if `relative`.
        relative: whether `amount` is a share of the full architecture rather than a count.
    """

    text: str
    amount: Fraction
    relative: bool

    @classmethod
    def parse(cls, text: str | int | float) -> Budget:
        """Read a budget as a user writes it.

        Raises:
            BudgetError: if `text` is no positive amount.
        """
        written = str(text).strip()
        match = _PATTERN.fullmatch(written) if len(written) <= _LONGEST else None
        if match is None:
            written = written if len(written) <= _LONGEST else f"{written[:_LONGEST]}…"
            raise BudgetError(f"budget '{written}' is not a positive amount of parameters: {_FORMS}")
        amount, unit = Fraction(match["number"]), match["unit"]
        if amount <= 0:
            raise BudgetError(f"budget '{written}' is not positive: {_FORMS}")
        if unit in ("%", "x"):
            return cls(written, amount / 100 if unit == "%" else amount, relative=True)
        count = amount * _SCALE.get(unit, 1)
        if count.denominator != 1:
            raise BudgetError(f"budget '{written}' is not a whole number of parameters: {_FORMS}")
        return cls(written, count, relative=False)

    def resolve(self, full: int) -> int:
        """The budget in scalars for an architecture of `full` trainable scalars; shares round down.

        Raises:
            BudgetError: if a share of this architecture comes to less than one parameter.
        """
        count = int(self.amount * full) if self.relative else int(self.amount)
        if count > LARGEST:
            raise BudgetError(f"budget '{self.text}' is more than any network can have")
        if count < 1:
            raise BudgetError(f"budget '{self.text}' of an architecture of {full:,} parameters is less than one")
        return count

    def __str__(self) -> str:
        return self.text


class Role(StrEnum):
    """What a trainable scalar is for; the ledger counts each role apart."""

    FIXED = "fixed"
    STORE = "store"
    COEFFICIENTS = "coefficients"
    MASKS = "masks"
    GENERATORS = "generators"


class Ledger(BaseModel):
    """What a network trains, by role, against what it may.

    Attributes:
        fixed: biases, normalisation and embedding tables, which every method leaves as they are.
        store: parameters that layers' weights are generated from; the weight of a layer that is not
            generated is a store of its own.
        coefficients: what mixes a store into weights: template coefficients, layer embeddings.
        masks: what modifies upsampled parameters.
        generators: networks or maps that generate coefficients or weights.
        state: scalars outside the parameters that training changed, normalisation statistics left out.
        reserved: scalars that training may still add, as a refinement of the sharing does; 0 when it is over.
        budget: how many trainable scalars there may be.
        reach: share of the store's scalars that reach some layer's weight (None: not measured, no store).
        remark: why the store is not used whole or the budget not used up, where the method says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: int = 0
    store: int = 0
    coefficients: int = 0
    masks: int = 0
    generators: int = 0
    state: int = 0
    reserved: int = 0
    budget: int
    reach: float | None = None
    remark: str | None = None

    @property
    def total(self) -> int:
        """All scalars that count against the budget."""
        return self.fixed + self.store + self.coefficients + self.masks + self.generators + self.state

    def check(self, name: str) -> Ledger:
        """This ledger, if the budget was kept.

        Raises:
            OverBudget: if the network called `name` counts more than its budget.
        """
        most = self.total + self.reserved
        if most > self.budget:
            raise OverBudget(
                f"{name} counts {most:,} trainable parameters, {most - self.budget:,} over its "
                f"budget of {self.budget:,}: {self.parts()}"
            )
        return self

    def parts(self) -> str:
        """The roles that hold anything, as `fixed 490, store 1,060`."""
        roles = ("fixed", "store", "coefficients", "masks", "generators", "state", "reserved")
        return ", ".join(f"{role} {getattr(self, role):,}" for role in roles if getattr(self, role))


def count_scalars(named: Iterable[tuple[str, Tensor]], roles: Mapping[str, Role]) -> dict[Role, int]:
    """Count tensors' scalars by storage, once each, also on the meta device.

    Tensors that are views of one storage count the stretch of it that they cover together; where two
    roles cover the same stretch, the first to name it keeps it. A complex number is two scalars.

    Args:
        named: tensors with their names.
        roles: each name's role; a name that is missing is `fixed`.
    """
    covered: dict[int, list[tuple[int, int]]] = defaultdict(list)
    counts = dict.fromkeys(Role, 0)
    for name, tensor in named:
        if tensor.numel() == 0:
            continue
        storage = storage_key(tensor)
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        start = tensor.storage_offset()
        before = _length(covered[storage])
        covered[storage].append((int(start), int(start + last + 1)))
        parts = 2 if tensor.is_complex() else 1
        counts[roles.get(name, Role.FIXED)] += parts * (_length(covered[storage]) - before)
    return counts


def _length(intervals: list[tuple[int, int]]) -> int:
    total, reached = 0, -1
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total
