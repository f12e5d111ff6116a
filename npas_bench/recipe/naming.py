"""Names of recipes that were derived from others."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# A database and a record have room for 200 characters.
_LONGEST = 150


def derived_name(base: str, changes: Mapping[str, Any]) -> str:
    """The name of a recipe with some fields changed, `default+epochs=3+optimiser=adam`.

    Where that would be too long, the changes are told by the beginning of their sha256: `default+9f86d081`.

    Args:
        base: name of the recipe that the fields were changed of.
        changes: the new values, by field.
    """
    words = [f"{field}={value_text(value)}" for field, value in sorted(changes.items())]
    name = "+".join([base, *words])
    if len(name) <= _LONGEST:
        return name
    return f"{base[: _LONGEST - 9]}+{hashlib.sha256('+'.join(words).encode()).hexdigest()[:8]}"


def value_text(value: Any) -> str:
    """A field's value as it is written in a name and on the command line: a word, or JSON without blanks."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)
