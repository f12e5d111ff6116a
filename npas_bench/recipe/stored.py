"""Recipes as a database and exchange files hold them: fields as JSON, as many as there were when they were written."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from npas_bench.recipe.base import Recipe
from npas_bench.recipe.images import ImageRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: tuple[type[Recipe], ...] = (Recipe, ImageRecipe)


@cache
def defaults() -> Mapping[str, Any]:
    """The default of every optional field of the package's recipes but the name, as JSON has it."""
    return {
        name: to_jsonable_python(field.get_default())
        for recipe in _CLASSES
        for name, field in recipe.model_fields.items()
        if name != "name" and not field.is_required()
    }


def differing(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored recipe but its name that differ from their defaults, or that have none.

    So two recipes are compared of which one was stored before a field existed. A field that this version does not know
    counts as one that differs.

    Args:
        stored: fields as JSON.
    """
    known = defaults()
    return {
        name: value for name, value in stored.items() if name != "name" and not (name in known and value == known[name])
    }
