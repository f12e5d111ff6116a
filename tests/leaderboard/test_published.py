"""What the published board is built over: a free place, or a board that was built before."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from npas_bench.database.opening import locate, open_for_writing
from npas_bench.errors import DatabaseError
from npas_bench.leaderboard.published import build_board
from tests.boards import Made

RECORDS = Path(__file__).parent.parent / "database" / "records-3.jsonl"


@pytest.fixture
def results():
    Path("results").mkdir()
    shutil.copy(RECORDS, "results")
    return Path("results")


def own_results(path):
    with Made(path) as made:
        made.add()


def foreign(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


OTHERS = {
    "a named pipe": (os.mkfifo, "is a named pipe"),
    "a text": (lambda path: path.write_text("important"), "is no SQLite database"),
    "an empty file": (lambda path: path.touch(), "is an empty file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "another program's database": (foreign, "holds no npas-bench results"),
    "results of one's own": (own_results, "holds 1 runs that were made with it"),
}


@pytest.mark.parametrize("make, reason", OTHERS.values(), ids=OTHERS)
def test_a_board_is_not_built_over_anything_else(results, make, reason):
    make(Path("board.db"))
    before = Path("board.db").lstat().st_ino, stat.S_IFMT(Path("board.db").lstat().st_mode)
    with pytest.raises(DatabaseError, match=reason):
        build_board(results, Path("board.db"))
    assert (Path("board.db").lstat().st_ino, stat.S_IFMT(Path("board.db").lstat().st_mode)) == before
    assert not list(Path().glob("*.building*"))


def test_a_board_is_built_anew_over_one_of_this_schema_or_a_past_one(results):
    count = build_board(results, Path("board.db"))
    assert count > 0
    mine = Path("board.db.building")
    mine.write_text("mine", encoding="utf-8")
    with closing(sqlite3.connect("board.db")) as connection, connection:
        connection.execute("UPDATE npas_bench_version SET version_num = '0004'")
        connection.execute("DELETE FROM metrics")
    Path("link.db").symlink_to("board.db")
    assert build_board(results, Path("link.db")) == count
    assert Path("link.db").is_symlink()
    open_for_writing(locate("board.db")).close()
    assert mine.read_text("utf-8") == "mine"


def test_a_board_is_not_built_where_a_log_is_left(results):
    Path("board.db-wal").write_text("x", encoding="utf-8")
    with pytest.raises(DatabaseError, match=r"board\.db-wal would be taken for the log of the new board"):
        build_board(results, Path("board.db"))
    assert not Path("board.db").exists()
