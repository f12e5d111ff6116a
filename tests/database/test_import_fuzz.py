"""Imports of whatever a file may hold: refused in one line or taken, and what was taken can be read by everything.

A sample runs with the whole suite; all of it with `pytest -m exhaustive tests/database/test_import_fuzz.py`.
"""

import io
import json
import random
import time
from pathlib import Path

import pytest
from rich.console import Console

from npas_bench.cli.terminal.boards import print_board, print_run
from npas_bench.database.check import find_faults
from npas_bench.database.exchange.files import check_files, export_records
from npas_bench.database.exchange.importing import import_files
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.queries.reproductions import related_runs
from npas_bench.database.queries.results import find_run, latest_runs
from npas_bench.errors import DatabaseError
from npas_bench.forecast.forecast import Forecast
from npas_bench.leaderboard.files import board_csv, board_json, board_latex, board_markdown
from npas_bench.leaderboard.reading import read_tables
from tests.database.test_exchange import PAST, record, sha

LINES = [line for path in PAST.values() for line in path.read_text(encoding="utf-8").splitlines()]
NUMBERS = (
    0,
    -0.0,
    -1,
    1,
    0.5,
    1e-9,
    5e-324,
    1e10,
    1e100,
    1e308,
    -1e308,
    2**31,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    10**400,
)
TEXTS = (
    "",
    " ",
    "=1+1",
    "x" * 300,
    "\x1b[31m",
    "[red]",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\ud800",
    "\0",
    "é",
    "nan",
    "1e999",
)
TIMES = (
    "2026-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59Z",
    "2026-01-01",
    "2020-01-01T00:00:00Z",
)
OTHERS = (None, True, False, [], {}, [None], {"": None}, [[]] * 9, {"a": {"b": [1e308, {}]}})
POOL = (*NUMBERS, *TEXTS, *TIMES, *OTHERS)
# The slowest may take this long on an idle core; a hang takes for ever.
LONGEST = 5.0


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 3)):
            yield from places(value[index], (*path, index))


def changed(made, dice):
    """A record with something in it replaced, left out, added or repeated."""
    *path, last = dice.choice([place for place in places(made) if place])
    part = made
    for step in path:
        part = part[step]
    match dice.randrange(8):
        case 0:
            del part[last]
        case 1 if isinstance(part, dict):
            part[dice.choice(("colour", "uid", "origin", "a" * 300))] = dice.choice(POOL)
        case 2 if isinstance(part, list):
            part += part[:1] * dice.choice((1, 2000))
        case 3 if isinstance(part[last], (int, float)) and not isinstance(part[last], bool):
            part[last] *= dice.choice((-1, 0, 1e-320, 1e300, 10**18))
        case _:
            part[last] = dice.choice(POOL)
    return made


def forged(made):
    """The record with an identity that fits the rest of it, where it has one at all."""
    cell = made.get("cell")
    if not isinstance(cell, dict) or not isinstance(cell.get("canonical"), str):
        return made
    try:
        said = json.loads(cell["canonical"])
        recipe = {name: cell["recipe"][name] for name in said["recipe"]}
        said = {name: cell[name] for name in said if name != "recipe"} | {"recipe": recipe}
        cell["canonical"] = json.dumps(said, sort_keys=True, separators=(",", ":"))
        cell["identity"] = sha(cell["canonical"])
    except (ValueError, LookupError, TypeError):
        pass
    return made


def malformed(dice):
    """The bytes of a file that holds a record, or hardly."""
    made = json.loads(dice.choice(LINES)) if dice.random() < 0.5 else record(dice.randrange(20))
    if dice.random() < 0.8:
        made["run"]["uid"] = f"{dice.getrandbits(128):032x}"
    for _ in range(dice.choice((0, 1, 1, 1, 2, 4))):
        made = changed(made, dice)
    line = json.dumps(forged(made) if dice.random() < 0.7 else made).encode()
    if dice.random() < 0.15:
        at = dice.randrange(len(line))
        line = dice.choice(
            (line[:at], line[:at] + bytes([dice.randrange(256)]) + line[at + 1 :], line[at:] + line[:at])
        )
    return b"\n".join([line] * dice.choice((1, 1, 1, 2)))


def read_everything(database):
    """Everything that shows stored runs, as commands and pages do."""
    tables = read_tables(database).shown
    boards = [("mine", tables)]
    board_json([("mine", tables, [])])
    for write in (board_csv, board_markdown, board_latex):
        write(boards)
    console = Console(file=io.StringIO(), width=80)
    print_board(console, "mine", tables)
    for number in latest_runs(database, 2):
        row = find_run(database, number)
        print_run(console, row, related_runs(database, row))
    for line in export_records(database):
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.exhaustive)], ids=["sample", "whole"])
def test_what_an_import_takes_can_be_read_and_the_rest_is_refused_in_one_line(count):
    taken = refused = 0
    database = open_for_writing(locate("runs.db"))
    for seed in range(count):
        path = Path("r.jsonl")
        path.write_bytes(malformed(random.Random(seed)))  # noqa: S311
        began = time.process_time()
        try:
            added = import_files(database, check_files([path])).added
        except DatabaseError as error:
            assert len(str(error)) < 600, seed
            assert str(error).isprintable(), seed
            refused += 1
        else:
            taken += 1
            if added:
                read_everything(database)
        assert time.process_time() - began < LONGEST, seed
    assert find_faults(database) == []
    assert Forecast.learn([database], "cpu").runs > 0
    # Neither everything nor nothing: otherwise this would test little.
    assert min(taken, refused) > count / 10
    database.close()
    assert {path.name for path in Path().iterdir()} <= {"runs.db", "runs.db.lock", "r.jsonl"}
