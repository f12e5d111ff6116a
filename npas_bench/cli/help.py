"""The help of groups of commands."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup
from typing_extensions import override


class WholeHelp(TyperGroup):
    """A group whose help shows the whole first sentence about each command, over several lines where it is long.

    The usual help cuts it at the width of the terminal, or at 80 columns in a pipe.
    """

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names of the commands with what they do."""
        for command in self.commands.values():
            paragraph = " ".join((command.help or "").split("\n\n")[0].split())
            command.short_help = command.short_help or re.sub(r"(?<=\.)\s.*", "", paragraph)
        super().format_commands(ctx, formatter)
