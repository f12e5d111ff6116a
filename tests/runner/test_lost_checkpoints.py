"""A database without its checkpoints does not begin half-done cells anew in silence."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from npas_bench.database.keys import RunKey
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.runs import add_runs, newest_runs
from npas_bench.database.schema import RunRow
from npas_bench.errors import Diverged
from npas_bench.runner.lost_checkpoints import lost_checkpoints
from tests.database.test_runs import cell, run

RUN = (
    "run",
    "--task",
    "digits",
    "--method",
    "full",
    "--seeds",
    "1",
    "--short",
    "--epochs",
    "2",
    "--executor",
    "inline",
)


@pytest.fixture
def half_done(call):
    """A database whose one run was left behind after an epoch, with a checkpoint."""
    assert call(*RUN).returncode == 0
    with closing(sqlite3.connect("runs.db")) as connection, connection:
        connection.execute("DELETE FROM metrics")
        connection.execute("UPDATE runs SET state = 'stale', current = 0, epoch = 1, finished = NULL")
        cell, digest = connection.execute("SELECT identity, data_digest FROM runs").fetchone()
    folder = Path("runs.db.work") / f"{cell[:20]}-{digest[:8]}-cpu"
    folder.mkdir(parents=True)
    (folder / "0.pt").write_bytes(b"")
    return Path("runs.db")


def told(**columns):
    """What is said of a run in a state, of which the folder of checkpoints holds nothing."""
    with closing(open_for_writing(locate("one.db"))) as database:
        add_runs(database, [cell("a")], [run("a")])
        with database.session.begin() as session:
            session.execute(update(RunRow).values({"epoch": 1} | columns))
        key = RunKey("a", "d", "cpu")
        one = SimpleNamespace(
            key=key, cell=SimpleNamespace(identity="a"), source=SimpleNamespace(digest="d"), device="cpu", repeats=None
        )
        return lost_checkpoints([one], newest_runs(database, [key]), database, Path("checkpoints"))


FAILED = {"state": "failed", "current": True}
GOING_ON = {
    "pending": {"state": "pending"},
    "stale": {"state": "stale"},
    "cancelled": {"state": "cancelled"},
    "failed for want of time": FAILED | {"message": "its deadline of 1 s passed after epoch 1 of 2"},
    "failed without a message": FAILED,
}
BEGINNING_ANEW = {
    "failed of itself": FAILED | {"message": "RuntimeError: x", "detail": "Traceback"},
    "diverged": FAILED | {"message": "diverged at epoch 2, step 1"},
    "never begun": {"state": "cancelled", "epoch": None},
}


@pytest.mark.parametrize("columns", GOING_ON.values(), ids=GOING_ON)
def test_every_run_that_would_have_gone_on_is_told(columns):
    assert told(**columns).startswith("1 run that was under way begins anew (1 epoch is lost), since")


@pytest.mark.parametrize("columns", BEGINNING_ANEW.values(), ids=BEGINNING_ANEW)
def test_a_run_that_begins_anew_in_any_case_says_nothing(columns):
    assert told(**columns) is None


def test_what_fails_without_leaving_checkpoints_is_known_by_its_row():
    # `epochs_of_runs` tells such a run by this message.
    assert str(Diverged("at epoch 2, step 1", [])).startswith("diverged ")


def test_what_is_not_run_now_is_not_told_as_lost_and_what_was_cancelled_is(half_done, call, caplog):
    with closing(sqlite3.connect(half_done)) as connection, connection:
        connection.execute("UPDATE runs SET state = 'cancelled'")
    half_done.rename("renamed.db")
    assert call(*RUN, "--only", "stale", "--db", "renamed.db").returncode == 1
    assert "anew" not in caplog.text
    assert call(*RUN, "--db", "renamed.db").returncode == 0
    assert "1 run that was under way begins anew (1 epoch is lost), since" in caplog.text


@pytest.mark.parametrize("bring", [Path.rename, shutil.copy, lambda path, new: shutil.move(path, new)])
def test_a_database_without_its_checkpoints_says_what_is_lost(half_done, bring, call, caplog):
    bring(half_done, Path("renamed.db"))
    assert call(*RUN, "--db", "renamed.db").returncode == 0
    assert "1 run that was under way begins anew (1 epoch is lost), since" in caplog.text
    assert "renamed.db.work holds no checkpoints of theirs" in caplog.text


def test_a_database_that_brings_its_checkpoints_along_or_is_reached_otherwise_says_nothing(half_done, call, caplog):
    Path("link.db").symlink_to(half_done)
    assert call(*RUN, "--db", "link.db").returncode == 0
    assert "anew" not in caplog.text
    assert not Path("link.db.work").exists()
