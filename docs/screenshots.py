"""Draws the pictures of docs/dashboard.md: pages of the dashboard on the published board.

python docs/screenshots.py [--out docs/images] [--theme light|dark] [--width 1280] [--chromium PATH]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from npas_bench.dashboard.serving import serving
from npas_bench.database.queries.listing import recent_runs
from npas_bench.leaderboard.published import open_published

_IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_MOST = 2000


def sharing_run() -> int:
    """The published run whose sharing map is shown: an SSN that mixes templates in every layer."""
    database = open_published()
    if database is None:
        raise SystemExit("there is no published board: make leaderboard")
    lines = recent_runs(database, states=("done",), limit=10_000)
    database.close()
    return next(line.run for line in lines if line.cell == "digits wrn-22-1 ssn 65% seed 0")


def whole(page: Page, width: int, path: Path) -> None:
    """A picture of a page as high as what is on it."""
    page.wait_for_selector(_IDLE)
    page.wait_for_timeout(1500)
    height = page.evaluate("document.querySelector('[data-testid=\"stMainBlockContainer\"]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(height + 10, _MOST)})
    page.wait_for_timeout(1000)
    page.screenshot(path=path)
    page.set_viewport_size({"width": width, "height": 900})


def main() -> None:
    """Serve the published board, visit its pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    pages = {
        "board": "?task=digits&architecture=wrn-10-1",
        "frontier": "frontier?architecture=wrn-10-1&log=true",
        "cost": "cost?architecture=wrn-10-1",
        "compare": "compare?first=ssn&second=reduced",
        "run": f"run?of=published&run={sharing_run()}",
        "papers": "papers?printed=Plummer+et+al.+2022%2C+Table+12",
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with serving(place / "none.db", place / "log") as server, sync_playwright() as started:
            browser = started.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
            context = browser.new_context(
                viewport={"width": arguments.width, "height": 900}, color_scheme=arguments.theme
            )
            page = context.new_page()
            for name, address in pages.items():
                page.goto(f"{server}/{address}")
                page.wait_for_selector("h1")
                if name == "run":
                    page.get_by_role("tab", name="Sharing map").click()
                whole(page, arguments.width, arguments.out / f"{name}.png")
            browser.close()


if __name__ == "__main__":
    main()
