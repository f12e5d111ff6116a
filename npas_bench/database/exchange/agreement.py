"""A check that two records of one run say the same, where both say anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where a run was imported from, and which files were kept of it, is no part of what it did.
_OF_A_COPY = ("origin",)
_LISTS = ("metrics", "subjects", "evaluations")


def disagreement(stored: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    """The first field that two records of a run give different values; None if there is none.

    A record of an older format has fewer fields. What one of the two does not tell is no contradiction.

    Args:
        stored: the record that an export of the stored run would write.
        told: the other record.

    Returns:
        The path of the field, such as `run.parameters` or `metrics.0.value`.
    """
    mine, theirs = ({k: v for k, v in one["run"].items() if k not in _OF_A_COPY} for one in (stored, told))
    found = _differing(mine, theirs, "run")
    for name in _LISTS:
        if found is None and stored.get(name) and told.get(name):
            found = _differing(stored[name], told[name], name)
    return found


def _differing(mine: Any, theirs: Any, path: str) -> str | None:
    if mine is None or theirs is None:
        return None
    if isinstance(mine, dict) and isinstance(theirs, dict):
        pairs = [(key, mine[key], theirs[key]) for key in mine if key in theirs]
    elif isinstance(mine, (list, tuple)) and isinstance(theirs, (list, tuple)):
        shared = min(len(mine), len(theirs))
        if any(part is not None for part in (*mine[shared:], *theirs[shared:])):
            return path
        pairs = [(str(place), mine[place], theirs[place]) for place in range(shared)]
    else:
        return None if mine == theirs else path
    found = (_differing(one, other, f"{path}.{key}") for key, one, other in pairs)
    return next((place for place in found if place is not None), None)
