"""Databases that hold numbers no run can have: earlier versions imported them, and every reader survives them."""

import json

import pytest
from sqlalchemy import text

from npas_bench.budget import LARGEST
from npas_bench.cells.grid import parse_grid
from npas_bench.cells.recipes import Change
from npas_bench.database.bounds import (
    LONGEST,
    MOST_SCALARS,
    believable_bytes,
    believable_operations,
    believable_seconds,
)
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.queries.results import read_results
from npas_bench.database.queries.timings import read_timings
from npas_bench.forecast.demand import Demands
from npas_bench.forecast.forecast import Forecast
from npas_bench.forecast.outlook import look_out
from npas_bench.leaderboard.cost import COSTS, spent
from npas_bench.leaderboard.reading import read_tables
from npas_bench.runner.launch import plan_cells
from tests.database.test_exchange import file_of, record
from tests.database.test_import_fuzz import read_everything

ABSURD = {
    "costs of 1e308": {"train_seconds": 1e308, "seconds_per_step": 1e308, "evaluate_seconds": 1e308},
    "costs of 5e-324": {"train_seconds": 5e-324, "seconds_per_step": 5e-324, "evaluate_seconds": 5e-324},
    "costs of 1e-300": {"train_seconds": 1e-300, "seconds_per_step": 1e-300, "evaluate_seconds": 1e-300},
    "costs below zero": {"train_seconds": -1.0, "seconds_per_step": -1.0, "evaluate_seconds": -1.0},
    "memory of 2^63 - 1": {"peak_memory": 2**63 - 1},
    "operations of 10^300": {"forward_flops": 10**300, "generation_flops": 10**300},
    "metrics of 1e308": {"value": 1e308},
    "metrics of 5e-324": {"value": 5e-324},
    "2^63 - 1 parameters": {"parameters": 2**63 - 1, "budget": 2**63 - 1, "full": 2**63 - 1},
    "a full size of one": {"full": 1, "budget": 2**63 - 1},
    "no epochs": {"epochs": 0, "batch_size": 0},
    "2^62 epochs": {"epochs": 2**62, "batch_size": 2**62},
    "epochs of text": {"epochs": "many", "batch_size": {}},
}
DEMANDS = Demands()
TABLES = {"value": "metrics", "budget": "cells", "full": "cells"}


def spoil(database, changes):
    """Put numbers into two of three runs, as a database that was filled by an earlier version holds them."""
    with database.session.begin() as session:
        for name, value in changes.items():
            if name in ("epochs", "batch_size"):
                (stored,) = session.execute(text("SELECT recipe FROM cells LIMIT 1")).one()
                recipe = stored if isinstance(stored, dict) else json.loads(stored)
                session.execute(text("UPDATE cells SET recipe = :r"), {"r": json.dumps(recipe | {name: value})})
            elif name in ("evaluate_seconds", "forward_flops", "generation_flops"):
                cost = {"train_seconds": 1.0, "engine": [], "peak_memory": 9} | {name: value}
                session.execute(text("UPDATE runs SET cost = :c WHERE id % 3 > 0"), {"c": json.dumps(cost)})
            else:
                where = "" if TABLES.get(name) == "cells" else f"WHERE {'run_id' if name == 'value' else 'id'} % 3 > 0"
                session.execute(text(f'UPDATE {TABLES.get(name, "runs")} SET "{name}" = :v {where}'), {"v": value})


@pytest.mark.parametrize("what", ABSURD)
def test_every_reader_survives_numbers_that_no_run_can_have(what):
    opened = open_for_writing(locate("runs.db"))
    survive(opened, ABSURD[what])
    opened.close()


def test_so_it_does_on_every_kind_of_server(database):
    names = ("costs of 5e-324", "operations of 10^300", "metrics of 1e308", "2^63 - 1 parameters")
    survive(database, {name: value for what in names for name, value in ABSURD[what].items()})


def survive(database, changes):
    """Read a database with these changes in every way."""
    add_records(database, [file_of(*(record(seed, train_seconds=2.0) for seed in range(3)))])
    spoil(database, changes)
    read_everything(database)
    for table in read_tables(database).shown:
        for axis in COSTS.values():
            assert all(one.cost < 1e30 for one in spent(table, axis))
    assert len(read_results(database)) == 3
    timings = read_timings(database, "cpu")
    forecast = Forecast(timings, "cpu", "here", DEMANDS)
    planned = _planned()
    estimates = forecast.all(planned)
    assert all(0 < one.seconds <= LONGEST for one in estimates)
    assert look_out(planned, estimates, 2).seconds > 0
    forecast.hindcast()


def _planned():
    grid = {
        "tasks": ["digits"],
        "architectures": ["wrn-10-1"],
        "methods": ["full", "ssn"],
        "budgets": ["2%"],
        "seeds": 1,
    }
    return plan_cells(parse_grid(grid, "test"), Change(), "cpu")


def test_a_run_may_have_as_many_parameters_as_a_budget():
    assert MOST_SCALARS == LARGEST


def test_numbers_that_runs_can_have_are_believed_and_others_are_none():
    assert [believable_seconds(one) for one in (None, 0, 1e-9, 3.5, 1e10)] == [None, 0, 1e-9, 3.5, 1e10]
    for odd in (-1, 5e-324, 1e308, float("inf"), float("nan"), "3", True, []):
        assert believable_seconds(odd) is None, odd
    assert [believable_bytes(one) for one in (None, 7, 2**60, 2**60 + 1, -1, "7")] == [None, 7, 2**60, None, None, None]
    assert [believable_operations(one) for one in (5e9, 1e300, float("nan"))] == [5e9, None, None]
