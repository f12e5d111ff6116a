"""Values as every database takes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The longest texts that the columns of a run take.
_LONGEST = {"device": 200, "host": 200}


def storable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run, with what some database would refuse replaced.

    PostgreSQL takes neither NUL characters nor half a surrogate pair in texts, and JSON has no infinite numbers. Texts
    are escaped where necessary and cut to the length of their columns; numbers that are not finite become None.
    """
    return {key: _clean(value, _LONGEST.get(key)) for key, value in fields.items()}


def _clean(value: Any, longest: int | None = None) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:longest]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_clean(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return value
