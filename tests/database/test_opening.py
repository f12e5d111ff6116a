import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError as SqlDatabaseError

from npas_bench.database.keys import RunKey, board_key, run_uid
from npas_bench.database.opening import locate, open_beside, open_for_reading, open_for_writing, upgrade
from npas_bench.database.queries.papers import read_papers
from npas_bench.database.queries.results import find_run, latest_runs
from npas_bench.database.revision import file_revision, server_revision
from npas_bench.database.schema import REVISION, REVISIONS, VERSION_TABLE, Base
from npas_bench.errors import DatabaseError
from npas_bench.leaderboard.paper_list import paper_list
from tests.database.test_runs import finished


def test_a_new_database_has_the_newest_schema_and_opens_again(location):
    open_for_writing(location).close()
    reopened = open_for_writing(location)
    with reopened.engine.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == REVISION
    reopened.close()


def test_the_migrations_make_what_the_models_say(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def test_the_code_knows_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", "npas_bench.database:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_a_database_of_a_newer_schema_is_refused_and_left_alone(location):
    database = open_for_writing(location)
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    database.close()
    for opener in (open_for_reading, open_for_writing):
        with pytest.raises(DatabaseError, match=r"schema 9999.*written by a newer version.*Update with"):
            opener(location)


def test_a_database_of_something_else_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    for opener in (open_for_reading, open_for_writing):
        with pytest.raises(DatabaseError, match="holds no npas-bench results"):
            opener(locate("other.db"))


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    Path("notes.txt").write_text("not a database " * 100, encoding="utf-8")
    for opener in (open_for_reading, open_for_writing):
        with pytest.raises(DatabaseError, match="is no SQLite database"):
            opener(locate("notes.txt"))
    assert Path("notes.txt").read_text(encoding="utf-8").startswith("not a database")
    assert [path.name for path in Path().iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nowhere/runs.db", "the folder nowhere does not exist"),
        (".", "names no file"),
        ("..", "is a folder"),
        ("mysql://user:secret@host/db", "mysql.* is not supported"),
        ("sqlite+aiosqlite:///x.db", "is not supported"),
        ("sqlite:///x.db?timeout=abc", "is not supported"),
        ("postgresql://user:secret@host:port/db", "URL cannot be read"),
        ("nonsense://x", "is not supported"),
        ("sqlite://", "names no file"),
        (":memory:", "names no file"),
        ("~nobody-of-that-name/x.db", "cannot be a file"),
        ("x" * 300, "cannot be a file"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/db", "cannot be reached"),
    ],
)
def test_an_unreachable_database_is_named_with_a_remedy_and_without_its_password(wanted, message):
    with pytest.raises(DatabaseError, match=message) as caught:
        open_for_writing(locate(wanted))
    assert "secret" not in str(caught.value)
    assert list(Path().iterdir()) == []


def test_the_database_is_the_one_named_then_the_environments_then_runs_db(monkeypatch):
    assert str(locate(None)) == "runs.db"
    monkeypatch.setenv("NPAS_BENCH_DB", "other.db")
    assert str(locate(None)) == "other.db"
    assert str(locate("mine.db")) == "mine.db"
    assert locate("postgresql://u@h/d").url.drivername == "postgresql+psycopg"


def test_reading_makes_no_file_and_writes_nothing(location):
    assert open_for_reading(locate("nothing.db")) is None
    assert list(Path().iterdir()) == []
    open_for_writing(location).close()
    database = open_for_reading(location)
    with pytest.raises(SqlDatabaseError, match=r"read-?only"), database.engine.begin() as connection:
        connection.execute(text("DELETE FROM runs"))
    database.close()


def test_a_file_takes_one_driver_and_a_server_several(location):
    first = open_for_writing(location)
    if first.alone:
        with pytest.raises(DatabaseError, match="another npas-bench run at work on it, and a file takes one"):
            open_for_writing(location)
    else:
        open_for_writing(location).close()
    open_for_reading(location).close()
    open_beside(location).close()
    first.close()
    open_for_writing(location).close()


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_old_database_is_refused_with_the_command_that_upgrades_it_and_kept(location, revision):
    old(location, revision)
    for opener in (open_for_reading, open_for_writing, open_beside):
        with pytest.raises(DatabaseError, match=rf"has schema {revision}, .* npas-bench db upgrade --db "):
            opener(location)
    assert upgrade(location, paper_list())[:2] == (revision, REVISION)
    database = open_for_reading(location)
    rows = [find_run(database, run) for run in sorted(latest_runs(database, 9))]
    assert [(row.state, row.current, row.train_seconds, row.peak_memory) for row in rows] == [
        ("done", False, 1.5, 1000),
        ("done", True, 1.5, 1000),
        ("running", False, None, None),
    ]
    assert len({row.uid for row in rows}) == 3
    assert len({row.board for row in rows}) == 1
    assert [(row.repeats, row.reported_epoch, row.subjects, row.weights) for row in rows] == [(None, None, [], [])] * 3
    assert [metric.value for metric in rows[1].metrics] == [4.0]
    if revision == "0001":
        assert rows[0].board == board_key(rows[0].cell.canonical, "d", "cpu")
        assert rows[1].uid == run_uid(RunKey("a" * 64, "d", "cpu"), rows[1].created)
    assert len(read_papers(database)) == 579
    database.close()
    assert upgrade(location) == (REVISION, REVISION, None)
    if location.path:
        with sqlite3.connect(f"{location.path}.{revision}") as kept:
            assert kept.execute("SELECT count(*) FROM runs").fetchone() == (
                {"0001": 4, "0002": 3, "0003": 3, "0004": 3}[revision],
            )
    with MigrationsAgree(location) as differences:
        assert differences == []


def old(location, revision):
    """A database as a past schema made it, with runs in it."""
    statements = (Path(__file__).parent / f"schema-{revision}.sql").read_text(encoding="utf-8")
    engine = create_engine(location.url)
    server = engine.dialect.name == "postgresql"
    # The two dialects call three types otherwise; all else is the same.
    statements = statements.replace("DOUBLE_TYPE", "DOUBLE PRECISION" if server else "DOUBLE")
    statements = statements.replace("SERIAL_OR_INTEGER", "SERIAL" if server else "INTEGER")
    statements = statements.replace("TIMESTAMP_TYPE", "TIMESTAMP WITH TIME ZONE" if server else "DATETIME")
    with engine.begin() as connection:
        if server:
            connection.exec_driver_sql("SET TIME ZONE 'UTC'")
            statements = statements.replace("%", "%%")
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()


class MigrationsAgree:
    """What differs between a database and the models."""

    def __init__(self, location):
        self.location = location

    def __enter__(self):
        self.database = open_for_writing(self.location)
        with self.database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return compare_metadata(context, Base.metadata)

    def __exit__(self, *_):
        self.database.close()


def test_two_names_of_one_file_are_one_database():
    first = open_for_writing(locate("runs.db"))
    Path("link.db").symlink_to("runs.db")
    with pytest.raises(DatabaseError, match="another npas-bench run at work"):
        open_for_writing(locate("link.db"))
    first.close()


def test_a_password_is_shown_nowhere():
    location = locate("postgresql+psycopg://me:hush@h/db?password=hush&sslpassword=hush&host=/run/pg")
    assert str(location) == "postgresql+psycopg://me:***@h/db?host=%2Frun%2Fpg"
    with pytest.raises(DatabaseError) as refused:
        locate("mysql://me:hush@h/db?password=hush")
    assert "hush" not in str(refused.value)


def test_a_revision_changes_with_the_results(location):
    with closing(open_for_writing(location)) as database:
        seen = [revision(location, database)]
        finished(database, "a")
        seen.append(revision(location, database))
        finished(database, "b", state="failed")
        seen.append(revision(location, database))
        assert len(set(seen)) == 3
        assert revision(location, database) == seen[-1]


def revision(location, database):
    return file_revision(location) or server_revision(database)


def test_databases_have_work_folders_of_their_own():
    wanted = ["a.db", "a.sqlite", "postgresql://h/a", "postgresql://h/b", "postgresql://g/a"]
    assert len({locate(name).work_folder for name in wanted}) == 5
    assert locate("postgresql://me:secret@h/a").work_folder == locate("postgresql://you@h/a").work_folder


def test_a_database_that_is_closed_is_a_single_file():
    open_for_writing(locate("runs.db")).close()
    assert {path.name for path in Path().iterdir()} == {"runs.db", "runs.db.lock"}


def test_closing_with_a_reader_at_work_loses_nothing():
    writer = open_for_writing(locate("runs.db"))
    reader = sqlite3.connect("runs.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchall()
    closing = threading.Thread(target=writer.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    reader.close()
    open_for_writing(locate("runs.db")).close()


def test_a_crash_while_a_database_is_made_leaves_none(monkeypatch):
    from npas_bench.database import opening

    def crash(engine, papers):
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE cells (x TEXT)"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_migrate", crash)
        with pytest.raises(KeyboardInterrupt):
            open_for_writing(locate("runs.db"))
    assert not Path("runs.db").exists()
    open_for_writing(locate("runs.db")).close()
