"""Boards and status of many runs: what is chosen, and that it is chosen on indices."""

import pytest
from sqlalchemy import event, update

from npas_bench.budget import Budget
from npas_bench.database.drivers import CodeVersion, enter
from npas_bench.database.grids import GridRuns
from npas_bench.database.opening import open_for_reading
from npas_bench.database.queries.boards import choose_boards, read_boards
from npas_bench.database.queries.counts import count_states
from npas_bench.database.queries.results import count_unfinished, has_name, read_results, stored_names
from npas_bench.database.queries.status import read_status
from npas_bench.database.runs import add_runs
from npas_bench.database.schema import DriverRow, RunRow
from npas_bench.leaderboard.reading import Choice, read_tables
from tests.database.many import load
from tests.database.test_runs import cell, finished, run

RUNS = 3000


def canonical(task="digits", recipe=3):
    return f'{{"task":"{task}","recipe":{{"epochs":{recipe}}}}}'


@pytest.fixture
def many(database):
    load().make(database, RUNS, enter(database, CodeVersion("0", "test")))
    return database


class Plans:
    """What SQLite does for each statement of a block."""

    def __init__(self, database):
        self.database = database
        self.statements = []

    def __enter__(self):
        event.listen(self.database.engine, "before_cursor_execute", self._note)
        return self

    def _note(self, connection, cursor, statement, parameters, context, executemany):
        self.statements.append((statement, parameters))

    def __exit__(self, *_):
        event.remove(self.database.engine, "before_cursor_execute", self._note)

    def steps(self):
        with self.database.engine.connect() as connection:
            for statement, parameters in self.statements:
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                    yield row[3]

    def looks(self, table):
        """How a table is looked at."""
        starts = (f"SCAN {table}", f"SEARCH {table}")
        return {step for step in self.steps() if step.startswith(starts)}


def test_the_tables_with_the_newest_results_are_chosen(database):
    for number, recipe in enumerate((1, 2, 3, 1)):
        finished(database, f"{number}", canonical=canonical(recipe=recipe))
    finished(database, "other", task="other", architecture="net", canonical=canonical("other"))
    add_runs(database, [cell("w", canonical=canonical(recipe=9))], [run("w")])
    boards = choose_boards(database)
    assert ([board.results for board in boards.chosen], boards.total) == ([1, 2, 1, 1], 4)
    first = choose_boards(database, limit=2)
    assert (first.chosen, first.total) == (boards.chosen[:2], 4)
    assert {r.run for r in read_boards(database, first.chosen)} == {1, 4, 5}
    for chosen in (choose_boards(database, task="other"), choose_boards(database, architecture="net")):
        assert (chosen.chosen, chosen.total) == (boards.chosen[:1], 1)
    assert choose_boards(database, task="none") == ([], 0)


def test_only_the_newest_version_that_has_a_result_counts_in_the_whole_database(database):
    finished(database, "a", 5.0, method="ssn", canonical=canonical(recipe=1))
    finished(database, "b", 6.0, method="ssn", method_version=2, canonical=canonical(recipe=2))
    add_runs(database, [cell("c", method="ssn", method_version=3)], [run("c")])
    assert choose_boards(database).total == 1
    (table,) = read_tables(database).shown
    assert [s.mean for s in table.bands[0].standings] == [6.0]
    finished(database, "d", 7.0, canonical=canonical(recipe=1))
    assert [b.results for b in choose_boards(database).chosen] == [2, 1]
    assert [s.mean for t in read_tables(database).shown for s in t.bands[0].standings] == [7.0, 6.0]
    finished(database, "e", 8.0, task_version=2, canonical=canonical(recipe=1))
    assert [s.mean for t in read_tables(database).shown for s in t.bands[0].standings] == [8.0]


def test_names_are_those_of_the_database(database):
    finished(database, "a", task="one")
    finished(database, "b", task="two")
    assert stored_names(database, "task") == {"one", "two"}
    assert (stored_names(database, "architecture"), stored_names(database, "metric")) == ({"wrn-10-1"}, {"error@1"})
    assert has_name(database, "task", "two")
    assert not has_name(database, "metric", "nll")


def test_many_runs_make_the_tables_that_all_results_make(many):
    from npas_bench.leaderboard.standings import tabulate

    tables = read_tables(many)
    assert tables.shown == tabulate(read_results(many))
    assert tables.total == len(tables.shown) > 8
    some = read_tables(many, Choice(limit=3))
    assert (len(some.shown), some.total) == (3, tables.total)
    assert all(table in tables.shown for table in some.shown)
    chosen = read_tables(many, Choice(task="digits", architecture="wrn-16-2"))
    assert chosen.shown == [t for t in tables.shown if (t.task, t.architecture) == ("digits", "wrn-16-2")]


def test_a_very_large_table_is_shown_in_part_with_complete_budgets(many):
    whole = read_tables(many, Choice(task="digits", architecture="wrn-10-1")).shown[0]
    part = read_tables(many, Choice(task="digits", architecture="wrn-10-1", page=100)).shown[0]
    # The reference at 100 % is there, and step times are relative to it.
    assert part.bands == [*whole.bands[:2], whole.bands[-1]]
    assert part.cut == (4, whole.bands[2].budget)
    after = read_tables(
        many, Choice(task="digits", architecture="wrn-10-1", page=100, lowest=Budget.parse(part.cut.after))
    ).shown[0]
    assert after.bands == [*whole.bands[2:4], whole.bands[-1]]
    last = read_tables(
        many, Choice(task="digits", architecture="wrn-10-1", page=100, lowest=Budget.parse(whole.bands[5].budget))
    ).shown[0]
    assert (last.bands, last.cut) == (whole.bands[5:], None)
    assert read_tables(many, Choice(task="digits", architecture="wrn-10-1", lowest=Budget.parse(10**9))).shown == []


def sqlite_only(database):
    if database.location.path is None:
        pytest.skip("SQLite's own plans")


def test_boards_are_chosen_and_runs_are_counted_on_covering_indices(many):
    sqlite_only(many)
    with Plans(many) as choosing:
        choose_boards(many, limit=5)
    assert choosing.looks("runs") == {"SEARCH runs USING COVERING INDEX ix_runs_board (current=?)"}
    assert all("USING COVERING INDEX" in look for look in choosing.looks("cells"))
    with Plans(many) as counting:
        count_states(many)
        count_unfinished(many)
    assert counting.looks("runs") == {"SCAN runs USING COVERING INDEX ix_runs_grid"}


def test_nothing_looks_at_all_rows(many):
    sqlite_only(many)
    with Plans(many) as plans:
        read_status(many)
        read_status(many, grid=GridRuns("grid-1", ("grid-1",)))
        read_tables(many, Choice(limit=2))
        read_tables(many, Choice(limit=2, task="digits", metric="nll"))
        read_tables(many, Choice(limit=2, page=10))
        has_name(many, "task", "digits")
    for table in ("runs", "cells", "metrics"):
        looks = plans.looks(table)
        assert looks
        assert [look for look in looks if look.startswith("SCAN") and "COVERING INDEX" not in look] == []


def test_status_counts_and_tells_what_is_under_way(many):
    with many.session.begin() as session:
        driver = session.query(DriverRow).one()
        begun = {"driver": driver.id, "attempt": 2, "epoch": 3, "started": driver.started}
        session.execute(update(RunRow).where(RunRow.id > RUNS - 6).values(state="running", **begun))
        session.execute(update(RunRow).where(RunRow.id == RUNS - 10).values(grid=None, state="stale", **begun))
    # As a reader sees it: whoever holds a file is the only driver there can be.
    reader = open_for_reading(many.location)
    status = read_status(reader, limit=3)
    reader.close()
    counts = status.counts["grid-1"]
    assert sum(counts.values()) == RUNS - 1
    assert (status.counts[""], status.lively) == ({"stale": 1}, True)
    assert [run.state for run in status.under_way] == ["running"] * 3
    assert status.hidden == counts["running"] + 1 - 3
    first = status.under_way[-1]
    assert (first.epoch, first.epochs, first.attempt, first.grid) == (3, 30, 2, "grid-1")
    assert first.cell == "digits densenet-bc-100-12 albert 1% seed 0"
    (driver,) = status.drivers
    assert (driver.alive, driver.running) == (True, counts["running"] + 1)


def test_a_running_run_of_a_dead_driver_is_stale_to_a_reader(many):
    with many.session.begin() as session:
        driver = session.query(DriverRow).one()
        driver.pid = 2**22 + 1
    running = count_states(many)["grid-1"]["running"]
    status = read_status(many)
    assert (status.counts["grid-1"]["running"], status.counts["grid-1"]["stale"]) == (0, running)
    assert {run.state for run in status.under_way} == {"stale"}
    assert [(driver.alive, driver.running) for driver in status.drivers] == [(False, running)]
    # The reader has changed nothing.
    assert "stale" not in count_states(many)["grid-1"]
    assert read_status(many, grid=GridRuns("none", ("none",))).counts == {}
