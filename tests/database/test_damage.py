"""Damaged databases: bytes that flipped and files that were cut. Every command says what is wrong, and `db check` too.

A sample runs with the whole suite; all of it with `pytest -m exhaustive tests/database/test_damage.py`.
"""

import random
import sqlite3
from pathlib import Path

import pytest

from npas_bench import load_results
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.errors import DatabaseError
from tests.database.test_exchange import PAST, own_run

READERS = [
    "status",
    "runs",
    "runs --json",
    "leaderboard --source mine",
    "leaderboard --format json",
    "compare full ssn",
    "show 1",
    "show 2",
    "show 5",
    "show 9",
    "plan --task digits --method full",
    "export --out out.jsonl --force",
    "db check",
]


@pytest.fixture
def whole():
    """The bytes of a database with runs that ended in every way, and no numbers of papers, which would fill it."""
    database = open_for_writing(locate("runs.db"))
    add_records(database, [PAST[2], PAST[4]])
    own_run(database, 70)
    own_run(database, 71, "unsupported")
    database.close()
    return Path("runs.db").read_bytes()


@pytest.fixture
def read(call):
    """Runs every reader, and returns what became of each; an exception fails the test."""

    def run():
        found = {words: call(*words.split()) for words in READERS}
        try:
            load_results("runs.db")
        except DatabaseError as error:
            found["load_results"] = (2, "", str(error))
        return found

    return run


def damaged(whole, chance):
    """A copy of the bytes that was cut short, or of which up to 64 in a row have a bit flipped."""
    content = bytearray(whole)
    if chance.random() < 0.15:
        return content[: chance.randrange(1, len(content))]
    start = chance.randrange(len(content))
    for place in range(start, min(start + chance.choice((1, 1, 1, 4, 64)), len(content))):
        content[place] ^= 1 << chance.randrange(8)
    return content


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.exhaustive)], ids=["sample", "whole"])
def test_whatever_bytes_a_file_has_every_command_says_what_is_wrong(whole, read, count):
    before = {words: said[0] for words, said in read().items()}
    assert before["db check"] == 0
    chance = random.Random(0)  # noqa: S311 (nothing secret)
    for number in range(count):
        Path("runs.db").write_bytes(damaged(whole, chance))
        found = read()
        codes = {words: said[0] for words, said in found.items()}
        assert set(codes.values()) <= {0, 1, 2}, number
        others = {words: found[words] for words, code in codes.items() if code != before.get(words, 0)}
        assert codes["db check"] or not others, (number, others)


# What a flipped bit can leave behind in a column, by statement.
ODD = {
    "JSON that ends too early": "UPDATE runs SET history = substr(history, 1, 20) WHERE id = 1",
    "JSON without a field": "UPDATE runs SET ledger = replace(ledger, 'store', 'stove') WHERE id = 1",
    "JSON of another kind": "UPDATE runs SET cost = '[]' WHERE id = 1",
    "JSON with another type": "UPDATE runs SET sharing = '[1]' WHERE id = 1",
    "JSON options": "UPDATE cells SET options = '{' WHERE method = 'ssn'",
    "a recipe that is a list": "UPDATE cells SET recipe = '[]'",
    "a time that is none": "UPDATE runs SET finished = 'yesterday' WHERE id = 1",
    "an ended run without a time": "UPDATE runs SET finished = NULL WHERE id = 1",
    "a state that is none": "UPDATE runs SET state = 'dome' WHERE id = 1",
    "a word for a number": "UPDATE metrics SET value = 'high'",
    "a word for a whole number": "UPDATE runs SET peak_memory = 'much' WHERE id = 1",
    "a text that is no UTF-8": "UPDATE runs SET device = CAST(x'ff41fe' AS TEXT) WHERE id = 1",
    "a blob for a text": "UPDATE cells SET task = x'ff'",
    "a switch that is neither on nor off": "UPDATE runs SET data_official = 7 WHERE id = 1",
    "a cell of another budget": "UPDATE cells SET budget = budget + 1 WHERE method = 'ssn'",
    "a cell of a network without parameters": "UPDATE cells SET full = 0",
    "a cell that is not there": "DELETE FROM cells",
    "versions that are numbers": "UPDATE runs SET versions = '{\"torch\": 2}' WHERE id = 1",
    "attempts without a reason": "UPDATE runs SET attempts = '[{}]' WHERE id = 1",
}


@pytest.mark.parametrize("statement", ODD.values(), ids=ODD)
def test_a_column_that_cannot_be_read_is_told_by_its_name(whole, call, statement):
    with sqlite3.connect("runs.db") as connection:
        assert connection.execute(statement).rowcount
    connection.close()
    for words in ("show 1", "leaderboard --format json", "export --out out.jsonl", "status", "runs"):
        said = call(*words.split())
        assert said.returncode in (0, 2), said
    said = call("db", "check")
    assert said.returncode == 1
    table = statement.split()[2 if statement.startswith("DELETE") else 1]
    assert f"of {table}." in said.stdout or "cell" in said.stdout, said.stdout


def test_a_command_that_fails_on_damage_says_what_is_damaged_and_what_to_do(whole, call):
    with sqlite3.connect("runs.db") as connection:
        connection.execute(ODD["JSON that ends too early"])
    connection.close()
    said = call("show", "1")
    assert said.returncode == 2
    assert "database runs.db is damaged: 1 value of runs.history cannot be read: row 1" in said.stderr
    assert "Put back a copy of it, or save what can be read with npas-bench export" in said.stderr


def test_an_error_that_does_not_come_from_the_database_is_passed_on(whole):
    from npas_bench.database.access import opened

    with pytest.raises(ValueError, match="a fault of the program"), opened(locate("runs.db")):
        raise ValueError("a fault of the program")


def test_what_an_import_would_refuse_today_is_no_damage(whole, call):
    with sqlite3.connect("runs.db") as connection:
        connection.execute("UPDATE runs SET cost = json_set(cost, '$.train_seconds', 1e308) WHERE state = 'done'")
    connection.close()
    assert call("db", "check").returncode == 0
