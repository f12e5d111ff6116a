"""The dashboard in a real browser: every page, on the published board and on a database with everything."""

import contextlib
import json
import os
import re
import shutil
from urllib.parse import urlsplit

import pytest

from npas_bench.dashboard.serving import serving as dashboard_serving
from tests.boards import Made

PAGES = ("", "frontier", "cost", "compare", "run", "grids", "papers")
DRAWN = ", ".join(f'[data-testid="{name}"]' for name in ("stDataFrame", "stPlotlyChart", "stAlert", "stProgress"))
FAILED = '[data-testid="stException"], [data-testid="stAlertContentError"]'


@contextlib.contextmanager
def serving(folder, database):
    """A dashboard at work that says nothing of tracebacks; where it listens."""
    with dashboard_serving(database, folder / "log") as address:
        yield address
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("NPAS_BENCH_TEST_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: on Debian, apt-get install chromium")
    with playwright.sync_playwright() as started:
        there = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield there
        there.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Nothing but the published board."""
    folder = tmp_path_factory.mktemp("published")
    with serving(folder, folder / "nothing.db") as address:
        yield address


@pytest.fixture(scope="module")
def everything(tmp_path_factory, filled):
    """A database of the user's own as well."""
    with serving(tmp_path_factory.mktemp("everything"), filled) as address:
        yield address


class Visit:
    """A tab of the browser, and what it asked of whom."""

    def __init__(self, context, address):
        self.address = address
        self.page = context.new_page()
        self.asked = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.errors = []

    def open(self, path=""):
        self.page.goto(f"{self.address}/{path}")
        return self._drawn()

    def settle(self):
        """Wait until a page that was clicked on has drawn what it draws; it must be no exception."""
        # It says a moment later that it is at work.
        self.page.wait_for_timeout(500)
        return self._drawn()

    def _drawn(self):
        self.page.wait_for_selector(DRAWN, timeout=60_000)
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
        assert self.page.locator(FAILED).all_inner_texts() == []
        return self

    def close(self):
        outside = {url for url in self.asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
        assert {urlsplit(url).hostname for url in outside} == {"127.0.0.1"}
        assert self.errors == []


@pytest.fixture
def visit(browser):
    with contextlib.ExitStack() as stack:

        def begin(address, **settings):
            context = browser.new_context(viewport={"width": 1280, "height": 1000}, **settings)
            stack.callback(context.close)
            visit = Visit(context, address)
            stack.callback(visit.close)
            return visit

        yield begin


@pytest.mark.slow
@pytest.mark.parametrize("where", ["published", "everything"])
def test_every_page_opens_without_an_exception_and_asks_nobody_else(visit, request, where):
    tab = visit(request.getfixturevalue(where))
    for page in PAGES:
        tab.open(page)
        assert tab.page.locator("h1").inner_text() == (page.capitalize() or "Board")


@pytest.mark.slow
def test_pages_are_reached_by_their_links(visit, published):
    tab = visit(published).open()
    for name in ("Frontier", "Cost", "Compare", "Run", "Papers", "Board"):
        tab.page.get_by_role("link", name=name).first.click()
        tab.page.locator("h1", has_text=name).wait_for()
        tab.settle()


@pytest.mark.slow
def test_a_click_on_a_point_shows_its_runs_and_a_run_is_a_click_away(visit, published):
    tab = visit(published).open("frontier?architecture=wrn-10-1")
    tab.page.locator(".plotly .scatterlayer .points path").first.wait_for()
    places = tab.page.evaluate(
        """() => {
            const chart = document.querySelector('.js-plotly-plot');
            const number = chart.data.findIndex(trace => trace.name === 'ssn');
            const trace = document.querySelectorAll('.scatterlayer .trace')[number];
            const box = trace.querySelector('.point').getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }"""
    )
    tab.page.mouse.click(*places)
    tab.page.get_by_text(re.compile(r"ssn at 5 %: its runs")).wait_for()
    links = tab.page.get_by_role("link", name=re.compile(r"seed \d: \d+\.\d\d %"))
    links.nth(4).wait_for()
    assert links.count() == 5
    label = links.first.inner_text()
    links.first.click()
    tab.page.locator("h1", has_text="Run").wait_for()
    tab.settle()
    assert re.search(r"run=\d+", tab.page.url)
    heading = tab.page.locator("h3").first
    heading.wait_for()
    assert heading.inner_text().startswith("digits wrn-10-1 ssn 5% seed 0")
    assert re.search(r"\d+\.\d\d %", label)[0] in tab.page.locator('[data-testid="stMetricValue"]').first.inner_text()
    for name in ("Parameters", "Sharing map", "Provenance"):
        tab.page.get_by_role("tab", name=name).click()
    assert "npas-bench run --task digits" in tab.page.locator("code").last.inner_text()


@pytest.mark.slow
def test_filters_change_the_board_and_a_link_restores_the_view(visit, everything, call, filled):
    tab = visit(everything).open()
    tab.page.get_by_text("published", exact=True).first.click()
    tab.settle()
    tab.page.get_by_label("Task", exact=False).first.click()
    tab.page.get_by_role("option", name="digits").click()
    tab.page.get_by_placeholder("search").fill("ssn")
    tab.page.wait_for_url(re.compile(r"method=ssn"))
    tab.settle()
    assert "task=digits" in tab.page.url
    assert "source=published" in tab.page.url
    saved = []
    for name in ("CSV", "JSON"):
        with tab.page.expect_download() as download:
            tab.page.get_by_role("button", name=name, exact=True).click()
        saved.append(download.value.path().read_text(encoding="utf-8"))
    chosen = ("--source", "published", "--task", "digits", "--method", "ssn")
    printed = [call("leaderboard", *chosen, "--format", form, "--db", filled).stdout for form in ("csv", "json")]
    assert saved[0] == printed[0]
    assert json.loads(saved[1]) == json.loads(printed[1])
    # Somebody else follows the link.
    other = visit(everything)
    other.page.goto(tab.page.url)
    other.settle()
    assert other.page.get_by_placeholder("search").input_value() == "ssn"
    with other.page.expect_download() as download:
        other.page.get_by_role("button", name="CSV", exact=True).click()
    assert download.value.path().read_text(encoding="utf-8") == saved[0]


@pytest.mark.slow
def test_hostile_names_run_nothing(visit, everything):
    tab = visit(everything)
    shown = []
    tab.page.on("dialog", lambda dialog: (shown.append(dialog.message), dialog.dismiss()))
    for page in PAGES:
        tab.open(f"{page}?source=your+runs")
        assert tab.page.locator("img[src='x']").count() == 0
        assert tab.page.locator("a[href*='example.invalid']").count() == 0
    assert shown == []


@pytest.mark.slow
def test_a_grid_is_followed_while_it_runs(visit, tmp_path):
    with Made(tmp_path / "live.db") as made:
        made.add("ssn", 0, grid="live")
        with serving(tmp_path, tmp_path / "live.db") as address:
            tab = visit(address).open("grids")
            tab.page.get_by_text("1 of 1 ended").wait_for()
            made.add("ssn", 1, grid="live")
            tab.page.get_by_text("2 of 2 ended").wait_for(timeout=15_000)
            made.add("ssn", 2, state="failed", message="diverged", grid="live")
            tab.page.get_by_text("3 of 3 ended").wait_for(timeout=15_000)
            tab.page.get_by_role("heading", name="Failed").wait_for()
            tab.settle()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_narrow_screen_nothing_sticks_out(visit, published, theme):
    tab = visit(published, color_scheme=theme)
    tab.page.set_viewport_size({"width": 420, "height": 900})
    for page in PAGES:
        tab.open(page)
        wide = tab.page.evaluate("document.querySelector('[data-testid=\"stMain\"]').scrollWidth")
        assert wide <= 420, page
