"""A database without its checkpoints does not begin half-done cells anew in silence."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

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
