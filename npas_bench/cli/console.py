"""The consoles that commands print to, which show every text as it is."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console, ConsoleDimensions
from typing_extensions import override

from npas_bench.database.labels import printable

if TYPE_CHECKING:
    from rich.text import Text

# Where no terminal sets the width, nothing is cut or wrapped to one.
_WIDE = 1000


class PlainConsole(Console):
    """A console on which a text is never markup, an emoji code or an instruction to the terminal.

    Names, paths and messages come from users, plugins and other people's files. What a command itself emphasises is
    made of `rich.text.Text` objects and styles.
    """

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, quiet=quiet, highlight=False, emoji=False)

    @override  # type: ignore[explicit-override,unused-ignore]
    @property
    def size(self) -> ConsoleDimensions:
        """The terminal's size; a file or a pipe is wide enough for everything, unless COLUMNS says otherwise."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(_WIDE, super().size.height)

    @size.setter
    @override
    def size(self, new_size: tuple[int, int]) -> None:
        # Rich's class has a setter, which nothing here uses.
        raise AttributeError("the size of this console is that of its terminal")

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text, without anything that a terminal would obey."""
        return super().render_str(printable(text, lines=True), **options | {"markup": False, "emoji": False})


output = PlainConsole()
errors = PlainConsole(stderr=True)
