"""What cells are called wherever they are shown, and how text from elsewhere is made safe to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npas_bench.cells.labels import method_label

if TYPE_CHECKING:
    from npas_bench.database.schema import CellRow

# The words for data whose files are not the official ones.
UNOFFICIAL = "unofficial data"
# The words for data that is official according to a file that came from elsewhere, and to nothing else.
CLAIMED = "official data as claimed"
# The length that names are cut to where there is little room.
LONGEST = 60


def cell_label(cell: CellRow) -> str:
    """A cell in words, with the options of its method."""
    budget = cell.budget_text or f"{cell.budget:,}"
    return f"{cell.task} {cell.architecture} {method_label(cell.method, cell.options)} {budget} seed {cell.seed}"


def data_text(label: str, official: bool, *, claimed: bool = False) -> str:
    """The name of some data, marked where the data is not the official one.

    Args:
        label: the name.
        official: whether the data is the official one.
        claimed: whether that is said by a file from elsewhere alone.
    """
    if official and not claimed:
        return label
    return f"{label}, {CLAIMED if official else UNOFFICIAL}"


def printable(text: str, *, lines: bool = False) -> str:
    r"""Text with every character that a terminal would obey, or not draw, replaced by its number: `\x1b`.

    Results may come from anywhere, so their texts are not to be trusted.

    Args:
        text: any text.
        lines: whether line breaks and tabs may stay.
    """
    if text.isprintable():
        return text
    return "".join(
        part if part.isprintable() or (lines and part in "\n\t") else part.encode("unicode_escape").decode("ascii")
        for part in text
    )


def short(text: str, longest: int = LONGEST) -> str:
    """A text in one line of printable characters, cut to a length."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
