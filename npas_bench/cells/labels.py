"""The names of methods wherever they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def method_label(method: str, options: Mapping[str, Any]) -> str:
    """A method with its options, as a board's row names it: `ssn (upsample=inter)`."""
    chosen = ", ".join(f"{key}={value}" for key, value in sorted(options.items()))
    return f"{method} ({chosen})" if chosen else method
