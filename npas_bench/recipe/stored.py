"""Recipes as a database and exchange files hold them: fields as JSON, as many as there were when they were written."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from npas_bench.recipe.base import Recipe, reason
from npas_bench.recipe.images import ImageRecipe
from npas_bench.recipe.naming import derived_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: tuple[type[Recipe], ...] = (Recipe, ImageRecipe)


@cache
def defaults() -> Mapping[str, Any]:
    """The default of every optional field of the package's recipes but the name, as JSON has it."""
    as_json = TypeAdapter(Any)
    return {
        name: as_json.dump_python(field.get_default(), mode="json")
        for recipe in _CLASSES
        for name, field in recipe.model_fields.items()
        if name != "name" and not field.is_required()
    }


@cache
def known_fields() -> frozenset[str]:
    """The names of all fields of the package's recipes, but the name."""
    return frozenset(field for recipe in _CLASSES for field in recipe.model_fields) - {"name"}


def differing(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored recipe but its name that differ from their defaults, or that have none.

    This is how two recipes are compared when one of them was stored before a field existed. A field that this version
    does not know counts as one that differs.

    Args:
        stored: fields as JSON.
    """
    known = defaults()
    return {
        name: value for name, value in stored.items() if name != "name" and not (name in known and value == known[name])
    }


def refusal(stored: Mapping[str, Any]) -> str | None:
    """Why a stored recipe is none that anything can be trained by; None if it is one.

    Fields that this version does not know are left alone.

    Args:
        stored: fields as JSON.
    """
    known = {name: value for name, value in stored.items() if name in known_fields()}
    return _refusal(json.dumps(known, sort_keys=True))


@lru_cache(maxsize=1000)
def _refusal(written: str) -> str | None:
    fields = json.loads(written)
    try:
        made = ImageRecipe.model_validate(fields)
    except ValidationError as error:
        return reason(error)
    read = made.model_dump(mode="json")
    for name, value in fields.items():
        # Recipes read "3" as a number and true as 1, which no recipe is stored as.
        if json.dumps(read[name], sort_keys=True) != json.dumps(value, sort_keys=True) and (
            read[name] != value or isinstance(value, bool)
        ):
            return f"{name}: {value!r} is not how {read[name]!r} is stored"
    return None


def named_changes(name: str, stored: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a recipe that a task offers, and the fields to change, that together make a stored recipe again.

    Args:
        name: name of the recipe, derived or not.
        stored: fields as JSON.

    Returns:
        The name of the recipe that it was derived from, and the changes that its name tells. Where the name does not
        tell them, these are all the fields that differ from their defaults.
    """
    base, *words = name.split("+")
    changes = {field: stored[field] for field in (word.partition("=")[0] for word in words) if field in stored}
    told = derived_name(base, changes) == name if changes else not words
    return base, changes if told else differing(stored)
