"""A grid is its cells: `--grid` means them in every command, however the file is named and whoever ran them first."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from npas_bench.database.grids import GridRuns, noted_name
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.schema import RunRow

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
    fields = {"task": "digits", "architecture": "wrn", "method": "full", "budget": 1, "seed": 0}
    many = tuple(SimpleNamespace(identity=f"{number:064x}", **fields) for number in range(50_000))
    assert count_states(database, grid=GridRuns("big", ("big",), True, many)) == {}
    more = (*many, SimpleNamespace(identity="a", **fields))
    assert count_states(database, grid=GridRuns("big", ("big",), True, more)) == {"big": {"done": 1}}


COMMANDS = [("status",), ("runs",), ("export", "--out", "-"), ("cancel", "--yes")]


def unfinish(path, state):
    """Put all runs into a state as if they had not ended."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM metrics")
        connection.execute("UPDATE runs SET state = ?, current = 0, finished = NULL", [state])


def test_another_file_of_the_same_name_is_another_grid(ran, call, monkeypatch):
    Path("sub").mkdir()
    Path("sub/my.yaml").write_text(GRID.replace("10%", "50%").replace("full, ", ""), encoding="utf-8")
    unfinish("runs.db", "pending")
    monkeypatch.chdir("sub")
    for words in COMMANDS:
        said = call(*words, "--grid", "my.yaml", "--db", "../runs.db")
        assert (said.returncode, said.stdout) == (2, ""), words
        assert "grid my.yaml has no runs in database ../runs.db" in " ".join(said.stderr.split()), words
    assert {run["state"] for run in json.loads(call("runs", "--json", "--db", "../runs.db").stdout)} == {"pending"}
    monkeypatch.chdir("..")
    assert "cancelled 2 pending runs" in call("cancel", "--grid", "my.yaml", "--yes").stdout


def test_a_grid_has_its_runs_by_other_recipes_and_not_those_of_cells_that_were_taken_out(ran, call):
    assert call("run", "--grid", "my.yaml", "--epochs", "2", "--executor", "inline").returncode == 0
    assert len(json.loads(call("runs", "--grid", "my.yaml", "--json").stdout)) == 4
    Path("my.yaml").write_text(GRID.replace("[full, reduced]", "[reduced]"), encoding="utf-8")
    left = json.loads(call("runs", "--grid", "my.yaml", "--json").stdout)
    assert [" reduced " in run["cell"] for run in left] == [True, True]
    assert len(call("export", "--grid", "my.yaml", "--out", "-").stdout.splitlines()) == 2


def test_on_a_server_too_a_note_alone_makes_no_run_one_of_a_grid(database):
    from npas_bench.cells.grid import Expander, parse_grid
    from npas_bench.database.queries.counts import count_states
    from npas_bench.database.runs import add_runs
    from tests.database.test_runs import cell, run

    (one,) = Expander().cells(parse_grid({"tasks": ["digits"], "methods": ["full"], "seeds": 1}, "a test"))
    akin = {"task": "digits", "architecture": one.architecture, "method": "full", "budget": one.budget, "seed": 0}
    cells = [cell("a", **akin), cell("b", **akin | {"seed": 1}), cell("c", **akin), cell("d", **akin | {"budget": 1})]
    cells.append(cell("e", **akin, task_version=77))
    grids = {"a": "g.yaml", "b": "g.yaml", "c": "other.yaml", "d": "g.yaml", "e": "g.yaml"}
    add_runs(database, cells, [run(name, grid=grid) for name, grid in grids.items()])
    with database.session.begin() as session:
        session.execute(update(RunRow).where(RunRow.identity.in_(["d", "e"])).values(origin="theirs.jsonl"))
    assert count_states(database, grid=GridRuns("g.yaml", ("g.yaml",), True, (one,))) == {"g.yaml": {"pending": 2}}
    assert count_states(database, grid=GridRuns("g.yaml", ("g.yaml",))) == {"g.yaml": {"pending": 2}}


def test_an_installed_grid_is_meant_by_its_name_wherever_it_was_run(database):
    from npas_bench.database.queries.counts import count_states
    from npas_bench.database.runs import add_runs
    from tests.database.test_runs import cell, run

    add_runs(database, [cell("a"), cell("b")], [run("a", grid="lowbudget"), run("b", grid="lowbudget")])
    with database.session.begin() as session:
        session.execute(update(RunRow).where(RunRow.identity == "b").values(origin="theirs.jsonl"))
    one = SimpleNamespace(identity="z", task="digits", architecture="wrn", method="ssn", budget=1, seed=0)
    for cells in ((), (one,)):
        grid = GridRuns("lowbudget", ("lowbudget",), True, cells)
        assert count_states(database, grid=grid) == {"lowbudget": {"pending": 2}}


def test_an_imported_run_belongs_to_no_grid_by_what_it_notes(ran, call):
    records = [json.loads(line) for line in call("export", "--out", "-").stdout.splitlines()]
    Path("other.yaml").write_text(GRID.replace("[full, reduced]", "[ssn]"), encoding="utf-8")
    for record in records:
        record["run"]["grid"] = "other.yaml"
    Path("r.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    assert call("import", "r.jsonl", "--db", "new.db").returncode == 0
    for words in COMMANDS:
        said = call(*words, "--grid", "other.yaml", "--db", "new.db")
        assert (said.returncode, said.stdout) == (2, "")
        assert "grid other.yaml has no runs in database new.db" in " ".join(said.stderr.split())
    assert len(json.loads(call("runs", "--grid", "my.yaml", "--json", "--db", "new.db").stdout)) == 2


BROKEN = {
    "tasks: [": "is no YAML",
    "tasks: [digits]\nmethds: [full]\n": "unknown key 'methds': did you mean methods",
    "": "a mapping with tasks, methods and budgets is wanted",
}


@pytest.mark.parametrize("content, message", BROKEN.items(), ids=["YAML", "key", "nothing"])
def test_a_grid_file_that_is_wrong_says_what_is_wrong(call, content, message):
    open_for_writing(locate("runs.db")).close()
    Path("broken.yaml").write_text(content, encoding="utf-8")
    for words in COMMANDS:
        said = call(*words, "--grid", "broken.yaml")
        assert (said.returncode, said.stdout) == (2, ""), words
        assert "grid file broken.yaml" in said.stderr, words
        assert message in " ".join(said.stderr.split()), words


@pytest.mark.parametrize("name", [f"{'x' * 300}.yaml", "folder.yaml", "loop.yaml"])
def test_a_grid_file_that_cannot_be_opened_says_why(call, name):
    open_for_writing(locate("runs.db")).close()
    Path("folder.yaml").mkdir()
    Path("loop.yaml").symlink_to("loop.yaml")
    said = call("status", "--grid", name)
    assert (said.returncode, said.stdout) == (2, "")
    assert "grid file" in said.stderr or "unknown grid 'loop.yaml'" in said.stderr


def test_a_grid_whose_method_is_not_installed_here_is_known_by_what_its_runs_noted(ran, call, caplog):
    Path("my.yaml").write_text(GRID.replace("reduced", "of_a_plugin"), encoding="utf-8")
    assert len(json.loads(call("runs", "--grid", "my.yaml", "--json").stdout)) == 2
    assert "which cells grid my.yaml has cannot be told (unknown method 'of_a_plugin'" in caplog.text


def test_a_grid_that_was_not_run_here_is_not_called_unknown(ran, call):
    for words in COMMANDS:
        said = call(*words, "--grid", "lowbudget")
        assert (said.returncode, said.stdout) == (2, ""), words
        assert "grid lowbudget has no runs in database runs.db" in " ".join(said.stderr.split()), words
