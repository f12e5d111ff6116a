"""Boards in files, with names that would be markup there."""

import csv
import io
import json

import pytest

from npas_bench.leaderboard.files import (
    board_csv,
    board_json,
    board_latex,
    board_markdown,
    cell_text,
    latex,
    markdown,
)
from npas_bench.leaderboard.standings import tabulate
from tests.leaderboard.test_standings import result

HOSTILE = "a|b_c%d&e$f#g{h}~i^j\\k<l>*m*`n`[o](p)\n\x1b[31m"


@pytest.fixture
def boards():
    results = [result(HOSTILE, seed, 2.0 + seed / 10) for seed in range(3)] + [result("ssn", 0, 1.0)]
    results += [result("never", state="unsupported", message="too small"), result("broken", state="failed")]
    return [("mine", tabulate(results))]


def test_csv_holds_every_standing_with_its_table(boards):
    rows = list(csv.DictReader(io.StringIO(board_csv(boards))))
    assert [row["method"] for row in rows][-2:] == ["broken", "never"]
    assert {(row["source"], row["task"], row["metric"], row["budget_percent"]) for row in rows} == {
        ("mine", "digits", "error@1", "10.0")
    }
    hostile = next(row for row in rows if row["method"].startswith("a|b"))
    assert hostile["method"].endswith(r"[o](p)\n\x1b[31m")
    assert float(hostile["mean"]) == pytest.approx(2.1)


FORMULAS = ("=1+1", "+1", "-1", "@x")
# A blank, an ideographic one, a letter that is drawn as nothing, a mark on nothing, a pattern of no dots.
BLANKS = (" ", "  ", "\u3000", "\u3164", "\u0301", "\u2800", "\u200b", "\t", "\n", "\ufeff")
WIDE = "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x", "\ufe62 1"


@pytest.mark.parametrize("name", [*FORMULAS, *WIDE, *(f"{blank}=1+1" for blank in BLANKS)], ids=ascii)
def test_no_spreadsheet_takes_a_name_for_a_formula(name):
    for cell in _cells(board_csv([("mine", tabulate([result(name)]))])):
        seen = cell.lstrip("".join(BLANKS))
        assert seen[:1] not in ("=", "+", "-", "@", *(wide[0] for wide in WIDE)), cell


def _cells(text):
    (row,) = csv.DictReader(io.StringIO(text))
    return [row["method"], row["label"]]


@pytest.mark.parametrize("name", ["a=1+1", " a", "(=1)", "", " "])
def test_names_that_are_no_formulas_stay_as_they_are(name):
    assert cell_text(name) == name


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x"])
def test_csv_holds_no_formula(name):
    (row,) = csv.DictReader(io.StringIO(board_csv([("mine", tabulate([result(name)]))])))
    assert row["method"] == row["label"] == f"'{name}"


def test_json_is_strict_and_whole(boards):
    found = json.loads(board_json([(*boards[0], [])]), parse_constant=pytest.fail)
    (table,) = found["boards"][0]["tables"]
    first = table["budgets"][0]["standings"][0]
    assert (first["mean"], [run["value"] for run in first["runs"]], first["rank"]) == (1.0, [1.0], None)
    assert {one["label"] for one in table["budgets"][0]["standings"]} >= {HOSTILE, "never", "broken"}


def test_markdown_tables_keep_their_columns(boards):
    text = board_markdown(boards)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in lines]
    assert len(set(bars)) == 1
    assert r"a\|b\_c%d\&e\$f#g{h}\~i^j\\k\<l\>\*m\*\`n\`\[o\](p)" in text
    assert "| unsupported |" in " ".join(text.split())
    assert "\x1b" not in text


def test_latex_escapes_what_it_would_obey(boards):
    text = board_latex(boards)
    assert (
        r"a|b\_c\%d\&e\$f\#g\{h\}\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l\textgreater{}"
        in text
    )
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1
    assert r"2.10 $\pm$ 0.25" in text


def test_no_file_holds_what_a_terminal_would_obey():
    assert "\x1b" not in markdown("\x1b") + latex("\x1b")
