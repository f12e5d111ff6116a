"""Names and numbers as pages show them: names may contain any character, and numbers have units."""

from __future__ import annotations

import html
from typing import Literal

from npas_bench.database.labels import LONGEST, printable, short
from npas_bench.leaderboard.files import no_formula
from npas_bench.leaderboard.texts import decimals

# Streamlit's Markdown would take these for markup, emoji and icon codes, colours or formulas.
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-!|~$:&^="})
_WHOLE_TABLE = 24
_WINDOW = 720


def plain(text: str) -> str:
    """Escape a text so that Streamlit's Markdown shows it literally, in one line."""
    return printable(text).translate(_MARKS)


def drawn(text: str, longest: int = LONGEST) -> str:
    """Escape a text, cut to a length, so that a chart draws it literally instead of obeying HTML and Plotly's marks."""
    return html.escape(short(text, longest), quote=False).replace("%{", "% {")


def with_unit(name: str, unit: str) -> str:
    """A quantity with its unit, such as `error@1 (%)`, which may head a column."""
    return no_formula(f"{name} ({unit})" if unit else name)


def number_format(*units: str) -> str:
    """The printf format of a column of metrics in some units, with as many decimals as any of them needs."""
    return f"%.{max(map(decimals, units))}f"


def mebibytes(count: float | None) -> float | None:
    """A number of bytes in MiB."""
    return None if count is None else count / 2**20


def millions(count: float | None) -> float | None:
    """A number of operations in MFLOP."""
    return None if count is None else count / 1e6


def share_text(percent: float) -> str:
    """A percentage of the full architecture, with three digits."""
    return f"{percent:.3g} %"


def count_text(count: float) -> str:
    """A number of parameters in short, such as `3.65M`."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g}{unit}"
    return f"{count:.0f}"


def height_for(rows: int) -> int | Literal["content"]:
    """The height of a table on a page: a short table is shown whole, a long one scrolls in a window."""
    return "content" if rows <= _WHOLE_TABLE else _WINDOW
