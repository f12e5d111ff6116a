"""The public interface: what `import npas_bench` offers to scripts and notebooks."""

import sqlite3
import subprocess
import sys

import pandas as pd
import pytest

import npas_bench
from npas_bench.cells.grid import parse_grid
from npas_bench.cells.recipes import Change
from npas_bench.database.location import locate
from npas_bench.errors import DatabaseError, GridError, NpasBenchError, RecipeError, UnknownName
from npas_bench.results import COLUMNS
from npas_bench.runner.launch import Launch, launch, plan_cells
from npas_bench.runner.progress import QuietReporter

GRID = {"tasks": ["digits"], "methods": ["reduced"], "budgets": ["10%"], "seeds": 1}
SMALL = {"tasks": "digits", "methods": "reduced", "budgets": "10%", "seeds": 1, "recipe": {"epochs": 1}}


def run(**other):
    return npas_bench.run_cells(**SMALL | {"progress": False} | other)


def test_the_import_alone_loads_nothing_but_the_package():
    code = "import sys; before = set(sys.modules); import npas_bench; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = [name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names]
    assert foreign == ["npas_bench", "npas_bench.account"]


def test_every_public_name_can_be_imported_and_is_listed_by_dir():
    for name in npas_bench.__all__:
        assert getattr(npas_bench, name) is not None
        assert name in dir(npas_bench)


def test_a_name_that_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError, match="'npas_bench' has no attribute 'run_cell'"):
        _ = npas_bench.run_cell


def test_cells_are_run_and_their_results_come_back_in_the_order_of_the_grid():
    frame = run(methods=[{"name": "ssn", "options": {"upsample": "inter"}}, "full"], budgets=["10%", 400], seeds=[3])
    assert list(frame.columns) == list(COLUMNS)
    assert list(zip(frame.label, frame.budget_text, frame.state, strict=True)) == [
        ("ssn (upsample=inter)", "10%", "done"),
        ("ssn (upsample=inter)", "400", "unsupported"),
        ("full", "100%", "done"),
    ]
    assert set(frame.seed) == {3}
    assert frame.value.notna().tolist() == [True, False, True]
    assert frame.message.notna().tolist() == [False, True, False]
    assert frame.share[2] == 1


def test_cells_that_are_finished_are_not_run_again():
    first = run()
    with_another = run(seeds=2)
    pd.testing.assert_frame_equal(first, with_another.head(1))
    assert run().run.tolist() == [1]


def test_a_grid_is_a_mapping_a_file_or_a_name(tmp_path):
    frame = npas_bench.run_cells(GRID, recipe={"epochs": 1}, progress=False)
    (tmp_path / "small.yaml").write_text("{tasks: [digits], methods: [reduced], budgets: ['10%'], seeds: 1}")
    again = npas_bench.run_cells(tmp_path / "small.yaml", recipe={"epochs": 1}, progress=False)
    pd.testing.assert_frame_equal(frame, again)
    pd.testing.assert_frame_equal(frame, run())
    with pytest.raises(UnknownName, match="lowbudget"):
        npas_bench.run_cells("lowbudgets")


def test_progress_goes_to_standard_error_or_nowhere(capfd):
    run()
    assert capfd.readouterr() == ("", "")
    run(seeds=[1], progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "1/1 cells" in shown.err


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"tasks": None}, NpasBenchError, "run_cells needs tasks, or a grid"),
        ({"tasks": "digit"}, UnknownName, "digits"),
        ({"methods": [{"nam": "ssn"}]}, GridError, "run_cells: .*'nam'.*name"),
        ({"budgets": "ten"}, GridError, "run_cells: budgets: .*ten"),
        ({"seeds": 0}, GridError, "run_cells: seeds: "),
        ({"recipe": {"epoch": 1}}, RecipeError, "epochs"),
        ({"executor": "slurm"}, NpasBenchError, "executor 'slurm'.*inline.*ray"),
        ({"grid": "lowbudget"}, NpasBenchError, "leave out tasks, methods, budgets, seeds"),
    ],
)
def test_a_mistake_is_an_error_of_the_package_and_runs_nothing(changed, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run(**changed)
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_of_a_grid_is_changed_by_fields_alone():
    with pytest.raises(NpasBenchError, match="leave out short, or set fields alone"):
        npas_bench.run_cells("lowbudget", recipe="short")


def test_results_are_those_of_the_command_and_can_be_chosen():
    frame = run(db="a.db")
    pd.testing.assert_frame_equal(npas_bench.load_results("a.db"), frame)
    assert npas_bench.load_results("a.db", task="digits", metric="nll").metric.tolist() == ["nll"]
    with pytest.raises(UnknownName, match="wrn-10-1"):
        npas_bench.load_results("a.db", architecture="wrn-10-2")


def test_a_repetition_is_no_result_of_its_own():
    first = run(db="a.db")
    planned = plan_cells(parse_grid({**GRID, "recipe": {"epochs": 1}}, "grid"), Change(), "cpu")
    launch(planned, locate("a.db"), QuietReporter(), Launch(executor="inline", again=True))
    with sqlite3.connect("a.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    pd.testing.assert_frame_equal(npas_bench.load_results("a.db"), first)


def test_a_database_that_does_not_exist_is_said_to_be_missing():
    with pytest.raises(DatabaseError, match=r"runs\.db does not exist"):
        npas_bench.load_results()


def test_the_published_board_is_a_source_of_results():
    frame = npas_bench.load_results("published", task="digits", architecture="wrn-10-1")
    assert len(frame) >= 100
    assert {"done", "unsupported"} <= set(frame.state)
    assert frame[frame.state == "done"].value.notna().all()
