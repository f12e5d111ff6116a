"""A grid is its cells: `--grid` means them in every command, however the file is named and whoever ran them first."""

import json
import os
from pathlib import Path

import pytest

from npas_bench.database.grids import GridRuns, noted_name
from npas_bench.database.opening import locate

GRID = "tasks: [digits]\nmethods: [full, reduced]\nbudgets: [10%]\nseeds: 1\nrecipe: {name: short, epochs: 1}\n"


@pytest.fixture
def ran(call):
    Path("my.yaml").write_text(GRID, encoding="utf-8")
    assert call("run", "--grid", "my.yaml", "--executor", "inline").returncode == 0


def ways():
    Path("sub").mkdir(exist_ok=True)
    Path("link.yaml").symlink_to("my.yaml")
    return ["my.yaml", "./my.yaml", "sub/../my.yaml", str(Path("my.yaml").resolve()), "link.yaml"]


def test_one_file_is_one_grid_by_whatever_path_it_is_named(ran, call):
    for way in ways():
        assert "2 done" in call("run", "--grid", way, "--executor", "inline").stdout
        (grid,) = json.loads(call("status", "--grid", way, "--json").stdout)["grids"]
        assert (grid["grid"], grid["counts"]["done"]) == (way, 2)
        assert len(json.loads(call("runs", "--grid", way, "--json").stdout)) == 2
        assert len(call("export", "--grid", way, "--out", "-").stdout.splitlines()) == 2
    assert {run["grid"] for run in json.loads(call("runs", "--json").stdout)} == {"my.yaml"}


def test_cells_that_were_run_before_belong_to_a_grid_that_has_them(ran, call):
    Path("wider.yaml").write_text(GRID.replace("seeds: 1", "seeds: 2"), encoding="utf-8")
    Path("other.yaml").write_text(GRID.replace("[full, reduced]", "[full]"), encoding="utf-8")
    assert len(json.loads(call("runs", "--grid", "wider.yaml", "--json").stdout)) == 2
    assert len(json.loads(call("runs", "--grid", "other.yaml", "--json").stdout)) == 1
    assert len(call("export", "--grid", "other.yaml", "--out", "-").stdout.splitlines()) == 1


def test_a_grid_whose_file_is_gone_is_known_by_what_its_runs_noted(ran, call):
    Path("my.yaml").unlink()
    assert len(json.loads(call("runs", "--grid", "my.yaml", "--json").stdout)) == 2
    said = call("export", "--grid", "mine.yaml", "--out", "-")
    assert said.returncode == 2
    assert "unknown grid 'mine.yaml': did you mean my.yaml" in said.stderr


def test_a_grid_is_noted_from_the_databases_folder(tmp_path):
    Path("data").mkdir()
    here, inside = locate("runs.db"), locate("data/runs.db")
    assert noted_name("lowbudget", here) == "lowbudget"
    assert noted_name("./data/g.yaml", here) == "data/g.yaml"
    assert noted_name("data/g.yaml", inside) == "g.yaml"
    assert noted_name("g.yaml", inside) == str(tmp_path.resolve() / "g.yaml")
    os.chdir("data")
    assert noted_name("../data/g.yaml", inside) == "g.yaml"


def test_many_cells_are_one_parameter(database):
    from npas_bench.database.queries.counts import count_states
    from tests.database.test_runs import finished

    finished(database, "a")
    many = tuple(f"{number:064x}" for number in range(50_000))
    assert count_states(database, grid=GridRuns("big", ("big",), many)) == {}
    assert count_states(database, grid=GridRuns("big", ("big",), (*many, "a"))) == {"big": {"done": 1}}
