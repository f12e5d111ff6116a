"""What lies beside a database, its logs and its lock, and a file's second name: nobody's runs come or go by them."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from npas_bench.database.access import Access, opened
from npas_bench.database.check import find_faults
from npas_bench.database.companions import database_beside
from npas_bench.database.opening import (
    locate,
    open_beside,
    open_for_import,
    open_for_reading,
    open_for_writing,
    upgrade,
)
from npas_bench.database.plain_files import refuse_to_append, refuse_to_replace
from npas_bench.errors import DatabaseError
from tests.database.test_runs import finished

WRITERS = {
    "a driver": lambda location: open_for_writing(location).close(),
    "an import": lambda location: open_for_import(location).close(),
    "a change beside": lambda location: open_beside(location).close(),
    "an upgrade": upgrade,
}


def left_by_a_killed_driver(path, *names):
    """A database as a driver leaves it that is killed: with what it wrote last in the log."""
    with closing(open_for_writing(locate("at-work.db"))) as database:
        for name in names:
            finished(database, name)
        for ending in ("", "-wal"):
            shutil.copy(f"at-work.db{ending}", f"{path}{ending}")
    assert Path(f"{path}-wal").stat().st_size


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_with_two_names_is_read_and_not_written(write):
    with closing(open_for_writing(locate("runs.db"))) as database:
        finished(database, "a")
    os.link("runs.db", "other.db")
    before = Path("runs.db").read_bytes()
    for name in ("runs.db", "other.db"):
        with pytest.raises(DatabaseError, match=rf"database {name} is a file with 2 names .*copy it with cp"):
            write(locate(name))
        open_for_reading(locate(name)).close()
    assert Path("runs.db").read_bytes() == before
    assert not Path("other.db.lock").exists()
    shutil.copy("other.db", "copy.db")
    write(locate("copy.db"))
    Path("other.db").unlink()
    write(locate("runs.db"))


def test_a_second_name_that_is_given_while_a_driver_is_at_work_lets_no_other_in():
    driver = open_for_writing(locate("runs.db"))
    os.link("runs.db", "other.db")
    with pytest.raises(DatabaseError, match="2 names"), opened(locate("other.db"), Access.WRITING):
        pass
    finished(driver, "a")
    driver.close()


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_log_that_is_left_over_is_not_taken_for_that_of_a_new_database(ending):
    left_by_a_killed_driver("runs.db", "a", "b")
    Path("runs.db-wal").rename(f"runs.db{ending}")
    Path("runs.db").unlink()
    log = Path(f"runs.db{ending}").read_bytes()
    for access in (Access.WRITING, Access.IMPORTING):
        refused = pytest.raises(DatabaseError, match=rf"runs\.db{ending} is, the log of a driver")
        with refused, opened(locate("runs.db"), access):
            pass
    assert not Path("runs.db").exists()
    assert Path(f"runs.db{ending}").read_bytes() == log
    Path(f"runs.db{ending}").unlink()
    with opened(locate("runs.db"), Access.WRITING) as database, database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0


def test_a_database_that_is_put_back_has_its_last_runs():
    left_by_a_killed_driver("runs.db", "a", "b")
    Path("runs.db").rename("away.db")
    with pytest.raises(DatabaseError, match="Put the database back"):
        open_for_writing(locate("runs.db"))
    Path("away.db").rename("runs.db")
    with opened(locate("runs.db"), Access.WRITING) as database, database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 2


def test_an_empty_log_is_no_obstacle():
    Path("runs.db-wal").touch()
    open_for_writing(locate("runs.db")).close()


def test_what_is_wrong_with_a_file_names_the_log_beside_it():
    open_for_writing(locate("runs.db")).close()
    content = bytearray(Path("runs.db").read_bytes())
    content[100:] = bytes(len(content) - 100)
    Path("runs.db").write_bytes(content)
    with pytest.raises(DatabaseError, match="Name another with --db") as caught:
        open_for_reading(locate("runs.db"))
    assert "log" not in str(caught.value)
    Path("runs.db-wal").write_text("x", encoding="utf-8")
    with pytest.raises(DatabaseError, match=r"malformed.*Beside it lies runs\.db-wal, the log of a driver"):
        open_for_reading(locate("runs.db"))


def test_a_check_that_finds_a_damaged_file_names_the_log_beside_it():
    with closing(open_for_writing(locate("runs.db"))) as database:
        finished(database, "a")
    with closing(sqlite3.connect("runs.db")) as connection, connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_runs_grid'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with Path("runs.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    with closing(open_for_reading(locate("runs.db"))) as database:
        assert "log" not in find_faults(database)[0].remedy
    with closing(open_for_reading(locate("runs.db"), immutable=True)) as database:
        Path("runs.db-wal").write_text("x", encoding="utf-8")
        assert "Beside it lies runs.db-wal" in find_faults(database)[0].remedy


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", ".lock"])
@pytest.mark.parametrize("refuse", [refuse_to_replace, refuse_to_append])
def test_nothing_is_written_into_what_belongs_to_a_database(tmp_path, refuse, ending):
    place = tmp_path / f"runs.db{ending}"
    refuse(place, "it")
    assert database_beside(place) is None
    open_for_writing(locate("runs.db")).close()
    Path("link").symlink_to(place)
    for way in (place, Path("link")):
        with pytest.raises(DatabaseError, match=r"it belongs to the database runs\.db beside it"):
            refuse(way, "it")


def test_an_export_does_not_take_the_place_of_the_lock(call):
    assert call("import", str(Path(__file__).with_name("records-3.jsonl"))).returncode == 0
    said = call("export", "--out", "runs.db.lock", "--force")
    assert (said.returncode, Path("runs.db.lock").stat().st_size) == (2, 0)
    assert "belongs to the database runs.db" in " ".join(said.stderr.split())
