"""Databases that are missing, broken, locked, of another schema, huge or odd: a readable page, never a traceback."""

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from npas_bench.database.opening import locate
from npas_bench.database.schema import REVISION
from tests.boards import Made
from tests.database.test_opening import old

PAGES = ("board", "frontier", "cost", "compare", "run", "grids", "papers")


def newer(path):
    Made(path).__exit__()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE npas_bench_version SET version_num = '9999'")


def no_database(path):
    path.write_text("this is no database\n" * 100, encoding="utf-8")


BROKEN = {
    "no database": (no_database, "is no SQLite database"),
    "an empty file": (lambda path: path.touch(), "is an empty file"),
    "another's database": (lambda path: sqlite3.connect(path).execute("CREATE TABLE a (b)"), "holds no npas-bench"),
    "the first schema": (lambda path: old(locate(str(path)), "0001"), f"0001, and this npas-bench uses {REVISION}"),
    "the second schema": (lambda path: old(locate(str(path)), "0002"), "npas-bench db upgrade --db"),
    "a newer schema": (newer, "written by a newer version"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
}


def said(page):
    return [one.value.replace("\\", "") for one in page.error]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("how", BROKEN)
def test_a_database_that_cannot_be_read_is_named_and_the_published_board_shown(show, monkeypatch, tmp_path, how, page):
    make, message = BROKEN[how]
    make(tmp_path / "bad.db")
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "bad.db"))
    drawn = show(page)
    assert list(drawn.exception) == []
    assert len(said(drawn)) == 1
    assert message in said(drawn)[0]
    assert page == "grids" or len(drawn.dataframe)


@pytest.mark.parametrize("page", PAGES)
def test_without_any_database_a_page_says_what_makes_one(show, monkeypatch, page):
    monkeypatch.setenv("NPAS_BENCH_DB", "nothing.db")
    for module in ("looking", "pages.papers"):
        monkeypatch.setattr(f"npas_bench.dashboard.{module}.published_location", lambda: None, raising=False)
    drawn = show(page)
    assert (list(drawn.exception), said(drawn)) == ([], [])
    assert "npas-bench run --grid lowbudget" in drawn.info[0].value
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_server_that_does_not_answer_is_named_without_its_password(show, monkeypatch, page):
    monkeypatch.setenv("NPAS_BENCH_DB", "postgresql+psycopg://me:secret@127.0.0.1:1/nothing")
    drawn = show(page)
    assert list(drawn.exception) == []
    assert "cannot be reached" in said(drawn)[0]
    assert "secret" not in str(said(drawn))


def test_a_locked_database_is_waited_for_a_moment_and_then_named(show, monkeypatch, filled, tmp_path):
    path = tmp_path / "locked.db"
    path.write_bytes(filled.read_bytes())
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setenv("NPAS_BENCH_DB", str(path))
    monkeypatch.setattr("npas_bench.dashboard.looking._PATIENCE", 0.2)
    drawn = show("board")
    assert list(drawn.exception) == []
    assert "database is locked" in said(drawn)[0]
    assert len(drawn.dataframe) == 1
    holder.execute("ROLLBACK")
    holder.close()
    drawn = show("board")
    assert (said(drawn), len(drawn.dataframe)) == ([], 2)


def test_a_database_that_is_being_written_to_is_shown_as_it_grows(show, monkeypatch, tmp_path):
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "live.db"))
    with Made(tmp_path / "live.db") as made:
        made.add("ssn", 0)
        stop = threading.Event()

        def write():
            seed = 1
            while not stop.is_set():
                made.add("ssn", seed)
                seed += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen, end = [], time.monotonic() + 60
            while (len(set(seen)) < 3 or len(seen) < 10) and time.monotonic() < end:
                drawn = show("board", source="your runs")
                assert (list(drawn.exception), said(drawn)) == ([], [])
                seen.append(int(drawn.dataframe[0].value["Seeds"].iloc[0]))
        finally:
            stop.set()
            writer.join()
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_are_no_numbers_count_as_failed(show, monkeypatch, tmp_path, page):
    with Made(tmp_path / "odd.db") as made:
        for seed in range(3):
            made.add("ssn", seed, float("inf"))
            made.add("ssn", seed, float("-inf"), percent=50)
            made.add("reduced", seed, 2.0)
            made.add("never", seed, state="unsupported", message="too small")
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "odd.db"))
    drawn = show(page, source="your runs")
    assert (list(drawn.exception), said(drawn)) == ([], [])
    if page == "board":
        frame = drawn.dataframe[0].value.set_index(["Method", "Budget"])
        assert frame.loc[("ssn", "10%"), "Notes"] == ["3 failed"]
        assert "no finite number" in frame.loc[("ssn", "10%"), "Why"]


@pytest.mark.parametrize("page", PAGES)
def test_only_unsupported_cells_make_a_readable_page(show, monkeypatch, tmp_path, page):
    with Made(tmp_path / "none.db") as made:
        made.add("ssn", 0, state="unsupported", message="too small")
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "none.db"))
    drawn = show(page, source="your runs")
    assert (list(drawn.exception), said(drawn)) == ([], [])
    if page == "board":
        assert drawn.dataframe[0].value["Notes"].tolist() == [["unsupported"]]


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory):
    """Ten thousand methods with two seeds each, at one budget; a few of them at another."""
    path = tmp_path_factory.mktemp("many") / "many.db"
    with Made(path) as made:
        made.add("ssn", 0, 1.0)
        with made.database.engine.begin() as connection:
            for table in ("cells", "runs", "metrics"):
                columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
                (row,) = connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall()
                first = dict(zip(columns, row, strict=True))
                rows = [altered(table, first, number, seed) for number in range(10_000) for seed in (0, 1)]
                marks = ", ".join("?" for _ in columns)
                connection.exec_driver_sql(
                    f"INSERT INTO {table} VALUES ({marks})", [tuple(row[name] for name in columns) for row in rows]
                )
    return path


def altered(table, row, number, seed):
    run = 10 + 2 * number + seed
    own = {
        "cells": {"identity": f"{run:064}", "method": f"method-{number}", "seed": seed},
        "runs": {"id": run, "uid": f"{run:032}", "identity": f"{run:064}", "token": f"t{run}"},
        "metrics": {"run_id": run, "value": 1 + number / 1000 + seed / 7},
    }
    return row | own[table]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_ten_thousand_methods_make_a_readable_page(show, monkeypatch, ten_thousand, page):
    monkeypatch.setenv("NPAS_BENCH_DB", str(ten_thousand))
    drawn = show(page, source="your runs")
    assert (list(drawn.exception), said(drawn)) == ([], [])
    if page == "board":
        assert len(drawn.dataframe[0].value) == 10_001
        assert drawn.dataframe[0].value["Rank"].max() > 1000
    for chart in drawn.get("plotly_chart"):
        assert len(json.loads(chart.proto.spec)["data"]) < 100


@pytest.mark.parametrize("page", PAGES)
def test_units_with_markup_and_absurd_numbers_are_shown_as_they_are(show, monkeypatch, tmp_path, page):
    unit = "![](//a.co/x)"
    with Made(tmp_path / "odd.db") as made:
        for seed in range(3):
            for method, value in (("ssn", 1e308), ("reduced", 1e80), ("full", -2.5)):
                metric = {"name": "<b>m</b>", "value": value + seed, "unit": unit, "higher_is_better": True}
                made.add(method, seed, metrics=[metric])
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "odd.db"))
    drawn = show(page, source="your runs", run="7", of="your runs")
    assert (list(drawn.exception), said(drawn)) == ([], [])
    texts = [one.value for kind in (drawn.markdown, drawn.caption, drawn.metric, drawn.info) for one in kind]
    texts += [one.label for one in drawn.metric]
    assert not any("![](" in text for text in texts)


def test_a_table_that_is_shown_in_part_says_so_and_is_compared_whole(show, monkeypatch, tmp_path, call):
    with Made(tmp_path / "long.db") as made:
        for percent in range(1, 13):
            for seed in range(3):
                made.add("ssn", seed, (1 if percent < 5 else 9) + seed / 100, percent=percent)
                made.add("reduced", seed, 5.0 + seed / 50, percent=percent)
    monkeypatch.setenv("NPAS_BENCH_DB", str(tmp_path / "long.db"))
    monkeypatch.setattr("npas_bench.leaderboard.reading.Choice.__init__.__defaults__", (None,) * 8 + (20,))
    for page in ("frontier", "cost"):
        assert "larger budgets" in show(page, source="your runs").warning[0].value
    found = show("compare", source="your runs")
    assert "ssn is significantly better in 4, reduced in 8" in found.info[0].value
    printed = call("compare", "ssn", "reduced", "--source", "mine").stdout
    assert "ssn is significantly better in 4, reduced in 8" in " ".join(printed.split())
