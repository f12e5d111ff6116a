"""How long the dashboard takes in a browser, on a database of many runs: its first paint, and a change of a filter.

python benchmarks/dashboard.py [--runs 100000] [--db FILE|URL] [--repeat 5] [--chromium PATH] [--json FILE]

The browser is Chromium; what it has loaded of Streamlit itself is kept from one visit to the next, as with anybody who
comes back. `first` is a visit with nothing kept.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import scale_database
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from npas_bench.dashboard.serving import serving
from npas_bench.database.drivers import CodeVersion, enter
from npas_bench.database.opening import locate, open_for_writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

console = Console()
_IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_TABLE = '[data-testid="stDataFrame"] canvas'


def seconds(act: Callable[[], object], page: Page) -> float:
    """Until the page has drawn what follows from something."""
    begun = time.perf_counter()
    act()
    page.locator(_TABLE).first.wait_for(state="attached")
    page.wait_for_selector(_IDLE)
    return time.perf_counter() - begun


def choose(page: Page, label: str, option: str) -> float:
    """Seconds from the choice of an option until the board has followed."""
    page.get_by_label(label, exact=False).first.click()
    choice = page.get_by_role("option", name=option, exact=True)
    choice.wait_for()
    before = page.url

    def act() -> None:
        choice.click()
        page.wait_for_url(lambda url: url != before)
        # The page says that it is at work a moment after the click.
        page.wait_for_timeout(50)

    return seconds(act, page)


def measure(address: str, repeat: int, chromium: str) -> dict[str, list[float]]:
    """Seconds of each kind of visit and change."""
    found: dict[str, list[float]] = {"first": [], "again": [], "task": [], "architecture": [], "all again": []}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repeat):
            context = browser.new_context(viewport={"width": 1280, "height": 1000})
            for kind in ("first", "again"):
                page = context.new_page()
                found[kind].append(seconds(lambda page=page: page.goto(address), page))  # type: ignore[misc]
            found["task"].append(choose(page, "Task", random.choice(scale_database.TASKS)))  # noqa: S311
            found["architecture"].append(
                choose(page, "Architecture", random.choice(scale_database.ARCHITECTURES))  # noqa: S311
            )
            found["all again"].append(choose(page, "Task", "all tasks"))
            context.close()
        browser.close()
    return found


def main() -> None:
    """Make the database, if it is not there, and visit it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--db", help="where to make it, and leave it; one that holds runs is visited as it is")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        database = arguments.db or str(Path(folder) / "scale.db")
        database = open_for_writing(locate(database))
        with database.engine.connect() as connection:
            runs = connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one()
        if not runs:
            scale_database.make(database, arguments.runs, enter(database, CodeVersion("0", "benchmark")))
            runs = arguments.runs
        database.close()
        with serving(database, Path(folder) / "log") as address:
            found = measure(address, arguments.repeat, arguments.chromium)
    table = Table(title=f"{runs:,} runs", title_justify="left", box=None, pad_edge=False)
    for name in ("until drawn", "median", "least", "most"):
        table.add_column(name, justify="left" if name == "until drawn" else "right")
    for kind, times in found.items():
        table.add_row(kind, *(f"{figure:.2f} s" for figure in (statistics.median(times), min(times), max(times))))
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"runs": runs, "seconds": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
