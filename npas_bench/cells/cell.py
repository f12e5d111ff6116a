"""Cells: the points of a grid, and the identity that tells whether two of them are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import ValidationError
from typing_extensions import override

from npas_bench import __version__, plugins
from npas_bench.cells.labels import method_label
from npas_bench.errors import NpasBenchError, RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Task

# It rises when identities are made in another way. Golden identities in the tests guard against changes.
IDENTITY_VERSION = 1


class RecordedCell(NamedTuple):
    """A cell as a database or an exchange file holds it.

    Attributes:
        identity: sha256 of `canonical`, in hexadecimal.
        identity_version: the version of the way that identities are made.
        canonical: sorted JSON of all that determines the result; the fields below say the same.
        task: name of the task.
        task_version: its version.
        architecture: name of the architecture.
        method: name of the method.
        method_version: its version.
        options: the method's options that differ from their defaults.
        budget: number of trainable scalars that the network may have.
        budget_text: the budget as it was asked for.
        recipe: every field that a recipe had when the record was made, as JSON.
        seed: the seed.
    """

    identity: str
    identity_version: int
    canonical: str
    task: str
    task_version: int
    architecture: str
    method: str
    method_version: int
    options: Mapping[str, Any]
    budget: int
    budget_text: str
    recipe: Mapping[str, Any]
    seed: int

    @classmethod
    def of(cls, row: Any) -> Self:
        """The record in an object that has these attributes, such as a row of the database's table of cells."""
        return cls(*(getattr(row, name) for name in cls._fields))


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
        budget: number of trainable scalars that the network may have.
        recipe: the recipe that it is trained by.
        seed: seed of initial values, order and augmentation.
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

    @classmethod
    def from_record(cls, record: RecordedCell) -> Self:
        """The cell that a record tells of, ready to be run here.

        Args:
            record: a cell as a database or an exchange file holds it.

        Raises:
            RecordError: if the record contradicts its identity, or this installation lacks the task, the method or the
                architecture, or has another version of one, and would compute something else.
        """
        if record.identity_version != IDENTITY_VERSION:
            raise RecordError(
                f"its identity is of version {record.identity_version}, and this npas-bench ({__version__}) makes "
                f"version {IDENTITY_VERSION}: use the npas-bench that ran it"
            )
        if hashlib.sha256(record.canonical.encode()).hexdigest() != record.identity:
            raise RecordError("its identity is not the sha256 of its canonical form: the record was changed")
        task = _installed(record)
        cell = cls(
            task=record.task,
            task_version=record.task_version,
            architecture=record.architecture,
            method=record.method,
            method_version=record.method_version,
            options=dict(record.options),
            budget=record.budget,
            recipe=_recorded_recipe(record, task),
            seed=record.seed,
            budget_text=record.budget_text,
        )
        if cell.canonical != record.canonical:
            raise RecordError("its fields do not agree with its canonical form: the record was changed")
        return cell

    def of_seed(self, seed: int) -> Cell:
        """The same cell with another seed, whose identity is made from parts of this cell's canonical JSON."""
        other = replace(self, seed=seed)
        object.__setattr__(other, "_around_seed", self._around())
        return other

    @property
    def canonical(self) -> str:
        """Sorted JSON of all that determines the result."""
        # It is not kept, since it would be most of the memory that a grid of many cells takes.
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

    @override
    def __str__(self) -> str:
        budget = self.budget_text or f"{self.budget:,}"
        return f"{self.task} {self.architecture} {self.method_label} {budget} seed {self.seed}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _installed(record: RecordedCell) -> Task:
    """The task that a record names, once all that it names is known to be installed in the versions that it names."""
    try:
        task, method = plugins.task(record.task), plugins.method(record.method, record.options)
        plugins.check_fit(task, plugins.architecture(record.architecture))
    except NpasBenchError as error:
        raise RecordError(f"this installation lacks what it needs: {error}") from None
    for kind, name, here, there in (
        ("task", record.task, task.version, record.task_version),
        ("method", record.method, method.version, record.method_version),
    ):
        if here != there:
            raise RecordError(
                f"it was run with version {there} of {kind} {name}, and version {here} is installed, whose results "
                f"differ: install the npas-bench or the plugin that has version {there}"
            )
    return task


def _recorded_recipe(record: RecordedCell, task: Task) -> Recipe:
    """The recipe of a record; a field that this version does not know may stand there if it is at its default."""
    determining = json.loads(record.canonical)["recipe"]
    # Of a plugin from before tasks named the class of their recipes, only the recipes tell it.
    with plugins.tasks.asked(record.task.partition(":")[0]):
        kind = type(task.recipes(record.architecture)["default"])
    unknown = sorted(determining.keys() - kind.model_fields.keys())
    if unknown:
        raise RecordError(f"its recipe has {unknown[0]}, unknown to this npas-bench ({__version__}): update npas-bench")
    try:
        return kind.model_validate({key: value for key, value in record.recipe.items() if key in kind.model_fields})
    except ValidationError as error:
        raise RecordError(f"its recipe is none of task {record.task}: {error.errors()[0]['msg']}") from None
