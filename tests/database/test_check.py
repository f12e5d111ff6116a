"""What `db check` finds: one kind of damage at a time."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Float, text

from npas_bench.database.check import find_faults
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import locate, open_for_reading, open_for_writing
from npas_bench.database.papers import fill_papers
from npas_bench.database.schema import Base, DriverRow
from npas_bench.leaderboard.paper_list import paper_list
from tests.database.test_exchange import RESULTS, file_of, own_run, record


@pytest.fixture
def filled(database):
    add_records(database, [file_of(record(0), record(1, state="unsupported"))])
    own_run(database, 2)
    return database


def changed(database, statement):
    with database.engine.begin() as connection:
        connection.execute(text(statement))
    return [fault.what for fault in find_faults(database)]


def test_a_database_in_use_has_no_faults(filled):
    assert find_faults(filled) == []
    add_records(filled, RESULTS)
    assert find_faults(filled) == []


def test_a_cell_that_was_changed_is_found(filled):
    found = changed(filled, "UPDATE cells SET canonical = replace(canonical, 'digits', 'cifar10') WHERE seed = 1")
    assert found[0].startswith("1 cell is not what the identity says: ")


def test_a_run_without_metrics_is_found(filled):
    assert changed(filled, "DELETE FROM metrics WHERE run_id = 1") == ["1 run has no metrics, though done: 1"]


def test_a_metric_that_is_not_finite_is_found(filled):
    infinity = "1e999" if filled.engine.dialect.name == "sqlite" else "'NaN'"
    found = changed(filled, f"UPDATE metrics SET value = {infinity} WHERE run_id = 3")
    assert found == ["1 run has metrics that are no finite numbers: 3"]


def test_a_number_that_is_not_finite_is_found_in_every_column_of_numbers(filled):
    columns = [column for table in Base.metadata.sorted_tables for column in table.columns]
    numbers = {f"{one.table.name}.{one.name}" for one in columns if isinstance(one.type, Float)}
    apart = {"metrics.value", "evaluations.value", "subjects.latency_seconds"}
    assert numbers > apart
    with filled.engine.begin() as connection:
        fill_papers(connection, paper_list())
    for name in numbers - apart:
        table, column = name.split(".")
        infinity = "-9e999" if filled.engine.dialect.name == "sqlite" else "'NaN'"
        where = "id = 1" if table == "runs" else "position = 1"
        (found,) = changed(filled, f"UPDATE {table} SET {column} = {infinity} WHERE {where}")
        assert found == f"1 value of {name} is no finite number: row 1"
        assert changed(filled, f"UPDATE {table} SET {column} = NULL WHERE {where}") == []


@pytest.mark.parametrize(
    "column, content",
    [
        ("cost", '{"train_seconds": 1e999}'),
        ("history", '[{"loss": -1E+400}]'),
        ("structure", '{"a": [[1e0999]]}'),
        ("structure", '{"a": ' + "9" * 400 + ".0}"),
    ],
)
def test_json_with_a_number_that_is_not_finite_is_found(filled, column, content):
    with filled.engine.begin() as connection:
        connection.execute(
            text(f"UPDATE runs SET {column} = CAST(:c AS {json_type(filled)}) WHERE id = 1"), {"c": content}
        )
    (found,) = [fault.what for fault in find_faults(filled)]
    assert found == f"1 value of runs.{column} cannot be read: row 1: a number in it is not finite"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_word_for_a_number_in_json_is_found(word):
    database = open_for_writing(locate("runs.db"))
    own_run(database)
    (found,) = changed(database, f"UPDATE runs SET structure = '{{\"a\": {word}}}'".replace(":", r"\:"))
    assert found == "1 value of runs.structure cannot be read: row 1: a number in it is not finite"
    database.close()


def json_type(database):
    return "TEXT" if database.engine.dialect.name == "sqlite" else "JSON"


@pytest.mark.parametrize("mark", ["false", "true"])
def test_a_cell_without_the_one_run_that_is_shown_is_found(filled, mark):
    add_records(filled, [file_of(record(0, uid="f" * 32))])
    found = changed(filled, f"UPDATE runs SET current = {mark} WHERE id IN (1, 4)")
    assert found == ["1 cell has no run, or several, that boards show: see run 1"]


def test_a_run_on_another_board_is_found(filled):
    found = changed(filled, "UPDATE runs SET board = 'x' WHERE id = 2")
    assert found == ["1 run stands on another board than the cell: 2"]


def test_runs_that_a_dead_driver_left_are_found_and_those_of_a_living_one_are_not(filled):
    own_run(filled, 5, end=False)
    reader = open_for_reading(filled.location)
    assert find_faults(reader) == []
    with filled.session.begin() as session:
        for driver in session.query(DriverRow):
            # A process of this machine that is there no more.
            driver.pid = 2**22 + 1
    (fault,) = find_faults(reader)
    assert fault.what == "1 run was left behind by a driver that lives no more: 4"
    reader.close()


def test_a_damaged_file_is_found():
    database = open_for_writing(locate("runs.db"))
    add_records(database, RESULTS)
    database.close()
    content = bytearray(Path("runs.db").read_bytes())
    content[4096 * 40 : 4096 * 44] = b"\xff" * 4096 * 4
    Path("runs.db").write_bytes(content)
    reader = open_for_reading(locate("runs.db"))
    (fault,) = find_faults(reader)
    assert fault.what.startswith("the file is damaged: ")
    assert "Put back a copy" in fault.remedy
    reader.close()


def test_a_row_that_refers_to_nothing_is_found():
    database = open_for_writing(locate("runs.db"))
    add_records(database, [file_of(record(0))])
    database.close()
    with sqlite3.connect("runs.db") as connection:
        connection.execute("DELETE FROM cells")
    reader = open_for_reading(locate("runs.db"))
    assert [fault.what for fault in find_faults(reader)] == ["1 row refers to what is not there (runs to cells)"]
    reader.close()
