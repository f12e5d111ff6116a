"""A database that is deleted, replaced or cut short while it is written is missed, and what it held is saved."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy.exc import DatabaseError as SqlDatabaseError

from npas_bench.database.access import Access, opened
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.schema import RunRow
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


OWN_ENDS = {
    "Ctrl-C": KeyboardInterrupt(),
    "an error of its own": DatabaseError("Ray is gone"),
    "a bug": RuntimeError("x"),
}


@pytest.mark.parametrize("failure", OWN_ENDS.values(), ids=OWN_ENDS)
@pytest.mark.parametrize(
    "harm, what", [HARMED["deleted"], HARMED["replaced by an empty database"]], ids=["gone", "new"]
)
def test_what_is_lost_by_a_command_that_is_stopped_or_fails_is_told_and_saved_beside_its_error(
    failure, harm, what, caplog
):
    with pytest.raises(type(failure)) as caught, opened(locate("runs.db"), Access.WRITING) as database:
        finished(database, "a")
        harm(Path("runs.db"))
        raise failure
    assert caught.value is failure
    assert [path.name for path in Path().glob("runs.db.saved*")] == ["runs.db.saved"]
    (warning,) = caplog.messages
    assert what in warning
    assert warning.endswith("They are saved in runs.db.saved")
    with closing(sqlite3.connect("runs.db.saved")) as saved:
        assert saved.execute("SELECT count(*) FROM runs WHERE state = 'done'").fetchone() == (1,)


def test_a_command_that_fails_or_is_stopped_without_a_loss_says_nothing_of_one(caplog):
    for failure in OWN_ENDS.values():
        with pytest.raises(type(failure)), opened(locate("runs.db"), Access.WRITING) as database:
            finished(database, type(failure).__name__)
            raise failure
    assert caplog.messages == []
    assert list(Path().glob("*.saved")) == []


def test_an_error_of_a_database_that_is_lost_gives_way_to_the_loss(caplog):
    with (
        pytest.raises(DatabaseError, match=r"is not there any more\. They are saved in runs.db.saved"),
        opened(locate("runs.db"), Access.WRITING) as database,
    ):
        finished(database, "a")
        Path("runs.db").unlink()
        with database.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1 FROM nowhere")
    assert caplog.messages == []


def checkpointed(database):
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("remembered", [True, False])
def test_results_that_another_database_overwrote_in_place_are_missed(remembered):
    other = open_for_writing(locate("other.db"))
    for name in "cdefg":
        finished(other, name)
    other.close()
    expected = "of the 2 runs that this command brought to an end, the file holds 0. They "
    expected += "are saved in runs.db.saved" if remembered else "could not be saved: what they were written to was over"
    with pytest.raises(DatabaseError, match=expected), opened(locate("runs.db"), Access.WRITING) as database:
        finished(database, "a")
        finished(database, "b")
        checkpointed(database)
        shutil.copyfile("other.db", "runs.db")
        if not remembered:
            # Pages that SQLite keeps in memory are all that is left of them.
            with database.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA shrink_memory")
    if remembered:
        with closing(sqlite3.connect("runs.db.saved")) as saved:
            assert saved.execute("SELECT identity FROM runs ORDER BY id").fetchall() == [("a",), ("b",)]
    assert len(list(Path().glob("*.saved*"))) == remembered
    with opened(locate("runs.db")) as database:
        assert database.session().query(RunRow).count() == 5


@pytest.mark.parametrize(
    "statement", ["DELETE FROM runs WHERE identity = 'a'", "UPDATE runs SET state = 'failed' WHERE identity = 'a'"]
)
def test_results_that_somebody_else_removed_or_changed_are_missed(statement):
    expected = "of the 2 runs that this command brought to an end, the file holds 1. runs.db.saved holds 1 of them"
    with pytest.raises(DatabaseError, match=expected), opened(locate("runs.db"), Access.WRITING) as database:
        finished(database, "a")
        finished(database, "b")
        finished(database, "c", state="failed")
        del database.ended[database.session().query(RunRow).filter_by(identity="c").one().uid]
        with closing(sqlite3.connect("runs.db")) as connection, connection:
            connection.execute("DELETE FROM metrics")
            connection.execute(statement)
            connection.execute("UPDATE runs SET repeats = NULL")


def test_the_message_about_a_loss_is_not_displaced_by_what_closing_the_file_meets():
    other = open_for_writing(locate("other.db"))
    for number in range(40):
        finished(other, f"other {number}")
    other.close()
    expected = "was deleted, replaced or damaged while it was written: .*(saved|damaged too)"
    with pytest.raises(DatabaseError, match=expected), opened(locate("runs.db"), Access.WRITING) as database:
        finished(database, "a")
        finished(database, "b")
        shutil.copyfile("other.db", "runs.db")
    # The next driver is let in.
    FileLock("runs.db.lock").acquire(timeout=0).lock.release()


def test_a_file_that_cannot_be_closed_in_an_orderly_way_lets_the_next_driver_in(monkeypatch):
    database = open_for_writing(locate("runs.db"))

    def malformed(*_):
        raise SqlDatabaseError("PRAGMA", None, sqlite3.DatabaseError("database disk image is malformed"))

    with monkeypatch.context() as patch:
        patch.setattr("npas_bench.database.opening.outside_transactions", malformed)
        database.close()
    open_for_writing(locate("runs.db")).close()


def test_a_run_that_is_stopped_after_its_database_was_deleted_says_both(call, monkeypatch, caplog):
    from npas_bench.runner import launch

    run = launch.run_planned

    def stopped(*arguments):
        run(*arguments)
        Path("runs.db").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_planned", stopped)
    said = call("run", "--task", "digits", "--method", "full", "--seeds", "1", "--short", "--epochs", "1")
    assert said.returncode == 130
    assert "stopped; the same command goes on from here" in said.stderr
    assert "is not there any more. They are saved in runs.db.saved" in caplog.text
