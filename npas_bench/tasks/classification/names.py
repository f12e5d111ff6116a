"""Names of files, of which a file system allows almost every byte, as messages and databases can hold them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# A message names at most so many files.
NAMED = 5
# Bytes that are no UTF-8 arrive as these characters (PEP 383), which nothing can print or store.
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF


def shown(name: str) -> str:
    """A name whose line breaks, control characters and bytes that are no UTF-8 are written as escapes."""
    return "".join(character if _is_plain(character) else _escaped(character) for character in name)


def is_storable(name: str) -> bool:
    """Tell whether a database can hold a name and one line can show it."""
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def _is_plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def enumerate_names(names: Sequence[str]) -> str:
    """The first few of several names, as a message shows them."""
    return ", ".join(map(shown, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if _FIRST_BYTE <= code <= _LAST_BYTE else ascii(character)[1:-1]
