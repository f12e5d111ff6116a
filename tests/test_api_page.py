"""The page on the Python interface and its example: what they show works."""

import os
import re
import subprocess
import sys

import npas_bench
from npas_bench.results import COLUMNS
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_snippets_of_the_page_run_one_after_the_other():
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(snippet, names)  # noqa: S102 (our own page)
    assert set(names["results"].label) == {"reduced"}
    assert len(names["mine"]) == 5
    assert len(names["published"]) >= 100


def test_the_page_names_every_public_name_and_every_column():
    assert {f"npas_bench.{name}" for name in npas_bench.__all__} == set(re.findall(r"`(npas_bench\.\w+)`", PAGE))
    rows = PAGE[PAGE.index("| column |") : PAGE.index("## An example")].strip().splitlines()[2:]
    assert set(re.findall(r"`([a-z_]+)`", " ".join(row.split("|")[1] for row in rows))) == set(COLUMNS)


def test_the_example_runs_three_cells_and_writes_their_frontier(tmp_path):
    command = [sys.executable, REPOSITORY / "examples" / "three_cells.py", "--epochs", "1", "--out", "quick.html"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ.copy())
    assert ended.returncode == 0, ended.stderr
    assert "3/3 cells" in ended.stderr
    assert "share of the full network" in (tmp_path / "quick.html").read_text(encoding="utf-8")
    assert (tmp_path / "three-cells.db").exists()
