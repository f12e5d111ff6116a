"""What a switch is: a part of the global state that can be read and set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Switch(NamedTuple):
    """A part of the global state.

    Attributes:
        name: the name that messages call it by.
        read: returns its value, which compares equal as long as nothing was changed.
        write: sets it to a value that `read` gave; None if nothing can.
        computing: whether results depend on it.
        importing: whether it is set back after the import of a plugin too. Libraries that a plugin imports may rely on
            what they change of the other switches.
        tell: says what of it differs between two values; None if its name says enough.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None
    computing: bool = True
    importing: bool = True
    tell: Callable[[Any, Any], str] | None = None
