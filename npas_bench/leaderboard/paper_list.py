"""The list of the numbers that papers print, `papers.csv`, as rows for a results database.

There is one row for each number, with the place where it is printed. Where a method of this suite can be set against
the number, `method_here`, `options_here` and `budget_here` say which.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from npas_bench.database.papers import PaperList

if TYPE_CHECKING:
    from collections.abc import Callable

# What a field of the list becomes in a row; fields that are not named here stay text.
_FIELDS: dict[str, Callable[[str], Any]] = {
    "budget_percent": lambda text: float(text) if text else None,
    "params_millions": lambda text: float(text) if text else None,
    "spread": lambda text: text or None,
    "runs": lambda text: int(text) if text else None,
    "higher_is_better": lambda text: text == "true",
    "method_here": lambda text: text or None,
    "options_here": lambda text: json.loads(text) if text else None,
    "budget_here": lambda text: float(text) if text else None,
}


def paper_list() -> PaperList:
    """The papers' numbers that come with this package."""
    content = (files("npas_bench.leaderboard") / "papers.csv").read_bytes()
    edition = hashlib.sha256(content).hexdigest()[:16]
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    rows = [{name: _FIELDS.get(name, str)(text) for name, text in row.items()} for row in reader]
    return PaperList(edition, rows)
