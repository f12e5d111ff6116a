"""Recipes of cells: what a grid and the command line ask for, made of what a task offers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from npas_bench.errors import NpasBenchError, RecipeError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Task


class RecipeEntry(BaseModel):
    """A recipe in a grid: its name, or a mapping of fields that are changed about it.

    Attributes:
        name: name of the recipe that the task offers; None takes the default one.
        fields: new values of fields, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = None
    fields: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, RecipeEntry):
            return value
        if not isinstance(value, dict):
            raise ValueError("the name of a recipe, or a mapping of its fields, is wanted")
        return {"fields": {key: new for key, new in value.items() if key != "name"}} | (
            {"name": value["name"]} if "name" in value else {}
        )


class Change(NamedTuple):
    """What the command line changes about every recipe of a grid.

    Attributes:
        short: whether each task's `short` recipe is taken where the grid names none.
        epochs: number of epochs to train instead.
        parts: number of parts that batches are cut into instead.
        precision: number format to compute in instead.
        fields: new values of any other fields, by name.
    """

    short: bool = False
    epochs: int | None = None
    parts: int | None = None
    precision: str | None = None
    fields: Mapping[str, Any] = MappingProxyType({})

    def all_fields(self) -> dict[str, Any]:
        """The new value of every field that is changed."""
        if self.epochs is not None and self.epochs < 1:
            raise NpasBenchError(f"{self.epochs} epochs are no training: ask for 1 or more")
        own = {"epochs": self.epochs, "parts": self.parts, "precision": self.precision}
        said = {field: value for field, value in own.items() if value is not None}
        for field in said.keys() & self.fields.keys():
            raise RecipeError(f"--recipe and --{field} both set {field}: leave one out")
        return said | dict(self.fields)


def chosen_recipe(task: Task, architecture: str, entry: RecipeEntry | None, change: Change) -> Recipe:
    """The recipe for an architecture that a grid asks for, with what the command line changes.

    Args:
        task: the task, which offers recipes by name.
        architecture: name of the architecture.
        entry: the grid's entry; None where it has none.
        change: what the command line changes, fields that the grid sets included.

    Raises:
        UnknownName: if the task offers no recipe of this name.
        RecipeError: if a field does not exist, takes no such value or does not fit the others, or if the task lacks the
            metric or the validation split that the recipe needs.
    """
    entry = entry or RecipeEntry()
    offered = task.recipes(architecture)
    name = entry.name if entry.name is not None else ("short" if change.short else "default")
    if name not in offered:
        raise UnknownName(f"recipe of task {task.name} for {architecture}", name, offered)
    try:
        recipe = offered[name].changed(entry.fields | change.all_fields())
        _check_validation(task, recipe)
    except (RecipeError, UnknownName) as error:
        raise RecipeError(f"recipe {name} of task {task.name}: {error}") from None
    return recipe


def _check_validation(task: Task, recipe: Recipe) -> None:
    metrics = [metric.name for metric in task.metrics]
    if recipe.stop_metric is not None and recipe.stop_metric not in metrics:
        raise UnknownName("metric", recipe.stop_metric, metrics, remedy=f"stop_metric is one of {', '.join(metrics)}")
    if recipe.validates and not recipe.validation and "validation" not in task.splits():
        field = "stop_metric" if recipe.stop_metric is not None else "reported best"
        raise RecipeError(
            f"{field} needs a validation split, which the task does not have: set validation to the share of the "
            "training split that is held out, such as 0.1"
        )
