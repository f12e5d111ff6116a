"""A database that is deleted, replaced or cut short while it is written is missed, and what it held is saved."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from npas_bench.database.access import Access, opened
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.errors import DatabaseError
from tests.database.test_runs import finished


def replaced(path):
    open_for_writing(locate("other.db")).close()
    Path("other.db").replace(path)


def all_names_deleted(path):
    for name in Path().glob(f"{path.name}*"):
        name.unlink()


def folder_instead(path):
    path.unlink()
    path.mkdir()


HARMED = {
    "deleted": (lambda path: path.unlink(), "is not there any more"),
    "deleted with its log": (all_names_deleted, "is not there any more"),
    "renamed": (lambda path: path.rename("elsewhere.db"), "is not there any more"),
    "replaced by an empty database": (replaced, "was replaced by another"),
    "replaced by a text": (lambda path: (path.unlink(), path.write_text("x" * 5000)), "cannot be read any more"),
    "replaced by a folder": (folder_instead, "cannot be read any more"),
}


@pytest.mark.parametrize("harm, what", HARMED.values(), ids=HARMED)
@pytest.mark.parametrize("access", [Access.WRITING, Access.IMPORTING])
def test_a_database_that_is_not_there_any_more_is_missed_and_saved(harm, what, access):
    expected = pytest.raises(DatabaseError, match=f"of the 1 ended runs .*{what}.*They are saved in runs.db.saved")
    with expected, opened(locate("runs.db"), access) as database:
        finished(database, "a")
        harm(Path("runs.db"))
    with closing(sqlite3.connect("runs.db.saved")) as saved:
        assert saved.execute("SELECT count(*) FROM runs WHERE state = 'done'").fetchone() == (1,)


@pytest.mark.parametrize("length", [0, 16, 4096, 20_000])
def test_a_database_that_is_cut_short_is_missed(length):
    with pytest.raises(DatabaseError, match=r"runs\.db"), opened(locate("runs.db"), Access.WRITING) as database:
        finished(database, "a")
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate("runs.db", length)


def test_an_error_of_the_work_itself_is_not_hidden():
    with pytest.raises(KeyError), opened(locate("runs.db"), Access.WRITING):
        Path("runs.db").unlink()
        raise KeyError


def test_a_run_whose_database_is_deleted_ends_with_code_2_and_says_so(call, monkeypatch):
    from npas_bench.runner import launch

    run = launch.run_planned

    def deleting(*arguments):
        summary = run(*arguments)
        Path("runs.db").unlink()
        return summary

    monkeypatch.setattr(launch, "run_planned", deleting)
    said = call("run", "--task", "digits", "--method", "full", "--seeds", "1", "--short", "--epochs", "1")
    assert said.returncode == 2
    assert "Results in runs.db" not in said.stdout
    assert "was deleted, replaced or damaged while it was written" in " ".join(said.stderr.split())
