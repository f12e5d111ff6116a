"""Boards, comparisons and the papers' numbers as JSON, CSV, Markdown and LaTeX, from the plain data of `record`."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

from npas_bench.database.labels import printable
from npas_bench.leaderboard.record import FORMAT, comparison_record, flat_rows, line_record, table_record
from npas_bench.leaderboard.texts import metric_text, standing_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from npas_bench.database.queries.papers import PaperNumber
    from npas_bench.leaderboard.comparison import HeadToHead
    from npas_bench.leaderboard.papers import Line
    from npas_bench.leaderboard.standings import BoardTable

_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|~$&"})
_LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "·": r"$\cdot$",
        "—": "---",
    }
)


def board_json(boards: Sequence[tuple[str, Sequence[BoardTable], Sequence[PaperNumber]]]) -> str:
    """Write boards as one JSON text.

    Args:
        boards: for each source, its name, its tables and its database's list of papers' numbers.
    """
    content = {
        "format": FORMAT,
        "boards": [
            {"source": source, "tables": [table_record(table, papers) for table in tables]}
            for source, tables, papers in boards
        ],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def board_csv(boards: Sequence[tuple[str, Sequence[BoardTable]]]) -> str:
    """Write boards as one flat table, with a row for each method and budget."""
    import pandas as pd

    rows = [row for source, tables in boards for row in flat_rows(tables, source)]
    return pd.DataFrame([{name: cell_text(value) for name, value in row.items()} for row in rows]).to_csv(
        index=False, lineterminator="\n"
    )


def cell_text(value: Any) -> Any:
    """The content of a cell, which no spreadsheet takes for a formula if it is a text."""
    return no_formula(value) if isinstance(value, str) else value


def no_formula(text: str) -> str:
    """A text in printable characters, marked if a spreadsheet would take it for a formula.

    A spreadsheet may drop blanks before it looks at a text, so the first character that can be seen decides.
    """
    text = printable(text)
    return f"'{text}" if _first_visible(text) in _FORMULAS else text


# What formulas begin with. NFKC makes these of the wide forms, which East Asian editions of spreadsheets take as well.
_FORMULAS = ("=", "+", "-", "@")
# Characters that are drawn as nothing although Unicode calls them letters or symbols.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"


def _first_visible(text: str) -> str:
    """The first character that is neither blank nor a mark on another, as NFKC writes it; empty if there is none."""
    for character in text:
        if character not in _BLANK and unicodedata.category(character)[0] not in "ZCM":
            return unicodedata.normalize("NFKC", character)
    return ""


def board_markdown(boards: Sequence[tuple[str, Sequence[BoardTable]]]) -> str:
    """Write boards in Markdown: a heading and a table for each of their tables."""
    parts = []
    for source, tables in boards:
        for table in tables:
            frame = _frame(table, markdown)
            parts.append(
                f"### {markdown(heading(table))}\n\n{markdown(f'{source}: {subheading(table)}')}\n\n"
                + frame.to_markdown(index=False, disable_numparse=True, colalign=_alignment(frame))
            )
    return "\n\n".join(parts) + "\n"


def board_latex(boards: Sequence[tuple[str, Sequence[BoardTable]]]) -> str:
    """Write boards in LaTeX: a `table` with `booktabs` rules for each of their tables."""
    parts = []
    for source, tables in boards:
        for table in tables:
            frame = _frame(table, latex)
            columns = "".join(where[0] for where in _alignment(frame))
            lines = [
                r"\begin{table}",
                rf"\caption{{{latex(f'{source}: {heading(table)}. {subheading(table)}')}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(frame.columns) + r" \\",
                r"\midrule",
                # The braces keep LaTeX from taking a bracket for an argument of the line before.
                *("{}" + " & ".join(row) + r" \\" for row in frame.itertuples(index=False)),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
            parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def _frame(table: BoardTable, escape: Any) -> pd.DataFrame:
    import pandas as pd

    metric = f"{table.metric or 'result'}{f' ({table.unit})' if table.unit else ''}"
    rows = [
        {
            "Budget": escape(band.text),
            "Rank": str(standing.rank or ""),
            "Method": escape(printable(standing.label)),
            metric: escape(standing_text(standing, table.unit)),
            "Seeds": str(standing.seeds or ""),
            "Parameters": "" if standing.parameters is None else f"{standing.parameters:,}",
            "Step": "" if standing.relative_time is None else f"{standing.relative_time:.2f}x",
            "Notes": escape(", ".join(standing.badges)),
        }
        for band in table.bands
        for standing in band.standings
    ]
    frame = pd.DataFrame(rows)
    if not frame["Notes"].any():
        frame = frame.drop(columns="Notes")
    return frame.rename(columns={metric: escape(printable(metric))})


def _alignment(frame: pd.DataFrame) -> list[str]:
    return ["left" if name in ("Method", "Budget", "Notes") else "right" for name in frame.columns]


def heading(table: BoardTable) -> str:
    """One line that says what a table is about."""
    return printable(f"{table.task} · {table.architecture} ({table.full:,} parameters)")


def subheading(table: BoardTable) -> str:
    """One line that says how the results of a table were made."""
    return printable(f"recipe {table.recipe} · data {table.data} · device {table.device_class} · {metric_text(table)}")


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it literally, in one line."""
    return printable(text).translate(_MARKDOWN)


def latex(text: str) -> str:
    """Escape a text so that LaTeX sets it literally, in one line."""
    return printable(text).translate(_LATEX)


def comparison_csv(found: Mapping[str, HeadToHead]) -> str:
    """Write the comparison of two methods as a flat table, with a row for each source and shared budget.

    Args:
        found: the comparison, for the name of each source.
    """
    import pandas as pd

    rows = []
    for source, one in found.items():
        record = comparison_record(one)
        for entry in record["comparisons"]:
            difference = entry.pop("difference") or {}
            both = {"source": source, "first_method": one.first, "second_method": one.second}
            rows.append(both | entry | {f"difference_{name}": value for name, value in difference.items()})
    return pd.DataFrame([{k: cell_text(v) for k, v in row.items()} for row in rows]).to_csv(
        index=False, lineterminator="\n"
    )


def lines_csv(lines: Iterable[Line]) -> str:
    """Write the papers' numbers and what was measured as a flat table, with a row for each line."""
    import pandas as pd

    rows = []
    for line in lines:
        record = line_record(line)
        measured: Mapping[str, Any] = record.pop("measured") or {}
        rows.append({**record, **{f"measured_{name}": value for name, value in measured.items()}})
    return pd.DataFrame([{k: cell_text(v) for k, v in row.items()} for row in rows]).to_csv(
        index=False, lineterminator="\n"
    )


def lines_json(lines: Iterable[Line]) -> str:
    """Write the papers' numbers and what was measured as JSON."""
    return json.dumps({"format": FORMAT, "lines": [line_record(line) for line in lines]}, indent=2, allow_nan=False)
