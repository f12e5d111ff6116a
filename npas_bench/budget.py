"""Budgets: how they are written, how trainable scalars are counted, and how a network over its budget is refused.

A budget bounds **all** trainable scalars of a network: fixed parameters (biases, normalisation, embedding tables),
stores, coefficients, masks and generators. Tensors that training changes without being parameters count too, except
for normalisation statistics.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from typing_extensions import override

from npas_bench.errors import BudgetError, OverBudget
from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

_PATTERN = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>%|x|k|M|G)?", re.ASCII)
_SCALE = {"k": 10**3, "M": 10**6, "G": 10**9}
# A database's integers hold no more, and no network has as many parameters.
LARGEST = 2**62
_LONGEST = 40
_FORMS = "write it as 10%, 4x, 3.65M, 365k or 365000"


@dataclass(frozen=True)
class Budget:
    """The number of trainable scalars that a network may have in total.

    Attributes:
        text: the budget as the user wrote it, such as `10%`, `4x`, `3.65M`, `365k` or `365000`.
        amount: the exact number of scalars, or, if `relative`, the exact share of the full architecture's.
        relative: whether `amount` is a share of the full architecture's parameters.
    """

    text: str
    amount: Fraction
    relative: bool

    @classmethod
    def parse(cls, text: str | int | float) -> Budget:
        """Read a budget as a user writes it.

        Raises:
            BudgetError: if `text` is not a positive amount.
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
        """The budget in scalars for an architecture of `full` trainable scalars; shares are rounded down.

        Raises:
            BudgetError: if it comes to less than one parameter, or to more than any network can have.
        """
        count = int(self.amount * full) if self.relative else int(self.amount)
        if count > LARGEST:
            raise BudgetError(f"budget '{self.text}' is more than any network can have")
        if count < 1:
            raise BudgetError(f"budget '{self.text}' of an architecture of {full:,} parameters is less than one")
        return count

    @override
    def __str__(self) -> str:
        return self.text


class Role(StrEnum):
    """What a trainable scalar is for; the ledger counts each role separately."""

    FIXED = "fixed"
    STORE = "store"
    COEFFICIENTS = "coefficients"
    MASKS = "masks"
    GENERATORS = "generators"


class Ledger(BaseModel):
    """The trainable scalars of a network, counted by role, beside its budget.

    Attributes:
        fixed: scalars of biases, normalisation and embedding tables, which no method changes.
        store: scalars that layers' weights are generated from; the weight of a layer that is not generated counts as a
            store of its own.
        coefficients: scalars that mix a store into weights: template coefficients and layer embeddings.
        masks: scalars that modify upsampled parameters.
        generators: scalars of networks or maps that generate coefficients or weights.
        state: scalars outside the parameters that training changed, except for normalisation statistics.
        reserved: scalars that training may still add, for instance by refining what is shared; 0 after training.
        budget: how many trainable scalars there may be.
        reach: share of the scalars of stores, coefficients, masks and generators that reach some layer's weight; None
            if there are none, or if it was not measured. Ledgers of earlier runs looked at the stores alone.
        remark: the method's explanation of why some of these scalars are dead, or some of the budget unused.
        deployed: scalars that the network needs once it is trained; None where they are those that are trained.
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
    deployed: int | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_equal(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields, without `deployed` where it is None, as ledgers were stored before there was the field."""
        fields: dict[str, Any] = serialise(self)
        return {name: value for name, value in fields.items() if name != "deployed" or value is not None}

    @property
    def total(self) -> int:
        """The number of all scalars that count against the budget."""
        return self.fixed + self.store + self.coefficients + self.masks + self.generators + self.state

    def check(self, name: str) -> Ledger:
        """This ledger, provided that the budget is kept.

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
        """The counts of all roles that are not empty, as `fixed 490, store 1,060`."""
        roles = ("fixed", "store", "coefficients", "masks", "generators", "state", "reserved")
        return ", ".join(f"{role} {getattr(self, role):,}" for role in roles if getattr(self, role))


def count_scalars(named: Iterable[tuple[str, Tensor]], roles: Mapping[str, Role]) -> dict[Role, int]:
    """Count tensors' scalars by role, each scalar of a storage once, on the meta device too.

    Tensors that are views of one storage count as the stretch of it that they cover together. Where two roles cover the
    same stretch, it counts for the one that comes first. A complex number counts as two scalars.

    Args:
        named: tensors with their names.
        roles: the role of each name; a name that is missing is `fixed`.
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
