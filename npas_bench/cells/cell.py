"""Cells: the points of a grid, and the identity that tells whether two of them are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from npas_bench.cells.labels import method_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.recipe import Recipe

# Rises when the way an identity is made changes; golden identities in the tests hold it fast.
IDENTITY_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One point of a grid.

    Attributes:
        task: name of the task.
        task_version: its version.
        architecture: name of the architecture.
        method: name of the method.
        method_version: its version.
        options: the method's options that differ from their defaults.
        budget: trainable scalars the network may have.
        recipe: how it is trained.
        seed: of initial values, order and augmentation.
        budget_text: the budget as it was asked for; not part of the identity.
    """

    task: str
    task_version: int
    architecture: str
    method: str
    method_version: int
    options: Mapping[str, Any]
    budget: int
    recipe: Recipe
    seed: int
    budget_text: str = ""

    # What of the canonical JSON stands before and after the seed. No field of what `replace` makes: it may differ.
    _around_seed: tuple[str, str] | None = field(init=False, repr=False, compare=False, default=None)

    def of_seed(self, seed: int) -> Cell:
        """The same cell of another seed, whose identity is made of what this one has of it."""
        other = replace(self, seed=seed)
        object.__setattr__(other, "_around_seed", self._around())
        return other

    @property
    def canonical(self) -> str:
        """Sorted JSON of all that determines the result."""
        # Made anew each time: kept, it would be most of what a grid of many cells holds.
        before, after = self._around()
        return f'{before},"seed":{_json(self.seed)},{after}'

    def _around(self) -> tuple[str, str]:
        if self._around_seed is None:
            before = {
                "identity_version": IDENTITY_VERSION,
                "architecture": self.architecture,
                "method": self.method,
                "method_version": self.method_version,
                "options": dict(self.options),
                "budget": self.budget,
                "recipe": self.recipe.content(),
            }
            after = {"task": self.task, "task_version": self.task_version}
            object.__setattr__(self, "_around_seed", (_json(before)[:-1], _json(after)[1:]))
        assert self._around_seed is not None  # noqa: S101 (it was just set)
        return self._around_seed

    @cached_property
    def identity(self) -> str:
        """sha256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def method_label(self) -> str:
        """The method with its options, as a board's row names it: `ssn (upsample=inter)`."""
        return method_label(self.method, self.options)

    def __str__(self) -> str:
        budget = self.budget_text or f"{self.budget:,}"
        return f"{self.task} {self.architecture} {self.method_label} {budget} seed {self.seed}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
