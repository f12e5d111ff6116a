"""The command line as a user meets it: good commands, then bad ones."""

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import pytest

from npas_bench.tasks.classification.cifar import Cifar10
from tests.conftest import REPOSITORY

QUICK = ("run", "--task", "digits", "--method", "full", "--epochs", "1", "--seeds", "1", "--executor", "inline")


RAN = (
    *("run", "--task", "digits", "--method", "full", "--method", "reduced", "--method", "ssn", "--budget", "2%"),
    *("--epochs", "1", "--seeds", "2", "--executor", "inline"),
)


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory):
    """A database in which full, reduced and an impossible ssn were run."""
    from npas_bench.cli.main import main

    path = tmp_path_factory.mktemp("ran") / "runs.db"
    with pytest.raises(SystemExit) as exit_:
        main([*RAN, "--db", str(path)])
    assert exit_.value.code == 0
    return path


@pytest.fixture
def ran(finished_runs, tmp_path):
    """A copy of that database as this test's runs.db."""
    shutil.copy(finished_runs, tmp_path / "runs.db")


def test_running_again_trains_nothing(ran, call):
    again = call(*RAN)
    assert again.returncode == 0
    assert "to run" not in again.stdout
    assert "6 cells: 4 done, 2 unsupported" in again.stdout


def test_the_board_shows_methods_by_budget_with_the_unsupported_one(ran, call):
    shown = call("leaderboard", "--source", "mine")
    assert shown.returncode == 0
    assert "Your runs (runs.db)" in shown.stdout
    assert re.search(r"2% = 1,551 +reduced +\d+\.\d\d +2 +1,545 +\d\.\d\dx", shown.stdout)
    assert re.search(r"ssn +unsupported", shown.stdout)
    assert re.search(r"100% = 77,562 +full +\d+\.\d\d +2 +77,562 +1\.00x", shown.stdout)
    assert "smallest possible: 1,637" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_board_can_show_another_metric_and_says_when_there_is_nothing(ran, call):
    assert "nll, lower is better" in call("leaderboard", "--source", "mine", "--metric", "nll").stdout
    for option, name, near in (
        ("--task", "digts", "digits"),
        ("--metric", "nl", "nll"),
        ("--architecture", "wrn", "wrn"),
    ):
        wrong = call("leaderboard", "--source", "mine", option, name)
        assert (wrong.returncode, f"did you mean {near}" in wrong.stderr) == (2, True), wrong
    Path("runs.db").unlink()
    empty = call("leaderboard", "--source", "mine", "--task", "digits")
    assert (empty.returncode, "no results yet for task digits" in empty.stdout) == (0, True)


def test_show_tells_all_of_a_run_and_how_to_repeat_it(ran, call):
    shown = call("show", "2")
    assert shown.returncode == 0
    text = " ".join(shown.stdout.split())
    for part in ("2, done", "reduced", "2% = 1,551", "error@1", "wrn-10-1 (2-2-5-8)", "torch 2."):
        assert part in text
    repeat = re.search(r"this cell again: (npas-bench run .*)$", text)
    assert repeat
    again = call(*repeat[1].split()[1:], "--executor", "inline")
    assert "1 cells: 1 done" in again.stdout
    assert "to run" not in again.stdout  # the very same cell


def test_plan_counts_parameters_and_tells_what_is_done_without_writing(ran, call):
    arguments = ("--task", "digits", "--method", "reduced", "--method", "ssn", "--budget", "2%", "--epochs", "1")
    plan = call("plan", *arguments, "--seeds", "3")
    assert plan.returncode == 0
    assert re.search(r"reduced +2% +1,545 +3 +2 done, 1 to run", plan.stdout)
    assert re.search(r"ssn +2% +— +3 +unsupported", plan.stdout)
    Path("runs.db").unlink()
    fresh = call("plan", "--grid", "lowbudget")
    assert "90 cells, 84 to run, 6 unsupported, on cpu" in fresh.stdout
    assert list(Path().iterdir()) == []


def test_only_missing_and_only_failed_choose(ran, call):
    new = ("run", "--task", "digits", "--method", "full", "--epochs", "2", "--seeds", "1", "--executor", "inline")
    failed = call(*new, "--only", "failed")
    assert (failed.returncode, "1 not run" in failed.stdout) == (1, True)
    missing = call(*new, "--only", "missing")
    assert (missing.returncode, "1 done" in missing.stdout) == (0, True)


def test_lists_name_what_is_installed(call):
    for kind, name in (("methods", "ssn"), ("tasks", "cifar10"), ("architectures", "wrn"), ("grids", "lowbudget")):
        shown = call("list", kind)
        assert (shown.returncode, name in shown.stdout) == (0, True)
    assert call("list", "methods", "--check").stderr == ""


@pytest.mark.slow
def test_results_of_unofficial_data_say_so_wherever_they_appear(real_data, call, monkeypatch):
    load = Cifar10.data

    def first_images(task, split):
        """What this test shows depends on the data's name, not on all of the images."""
        examples = load(task, split)
        return dataclasses.replace(examples, pixels=examples.pixels[:256], labels=examples.labels[:256])

    monkeypatch.setattr(Cifar10, "data", first_images)
    run = call(
        *("run", "--task", "cifar10", "--architecture", "wrn-10-1", "--method", "reduced", "--budget", "1%"),
        *("--epochs", "1", "--seed", "0"),
    )
    assert run.returncode == 0, run.stderr
    board, shown = call("leaderboard", "--source", "mine"), call("show", "1")
    assert "data: CIFAR-10 (JPEG q75), unofficial data" in board.stdout
    assert "CIFAR-10 (JPEG q75), unofficial data" in " ".join(shown.stdout.split())


def test_fields_of_a_recipe_are_set_on_the_command_line_and_repeated_as_shown(call):
    fields = ("--recipe", "short", "--recipe", "optimiser=adamw", "--recipe", "betas=[0.9, 0.98]", "--epochs", "1")
    chosen = ("--task", "digits", "--method", "reduced", "--budget", "2%", "--seed", "0")
    ran = call("run", *chosen, *fields, "--executor", "inline")
    assert (ran.returncode, "1 done" in ran.stdout) == (0, True), ran.stderr
    text = " ".join(call("show", "1").stdout.split())
    assert "recipe short+betas=[0.9,0.98]+epochs=1+optimiser=adamw {" in text
    repeat = re.search(r"this cell again: (npas-bench run .*)$", text)
    assert repeat
    assert "1 cells: 1 done" in call(*shlex.split(repeat[1])[1:], "--executor", "inline").stdout
    planned = call("plan", *chosen, "--short", *fields[2:])
    assert "1 cells, 0 to run" in planned.stdout


FULL = ("run", "--task", "digits", "--method", "full")


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("run",), ["name a grid with --grid"]),
        (("run", "--grid", "lowbuget"), ["unknown grid 'lowbuget'", "lowbudget"]),
        (("run", "--grid", "nothing.yaml"), ["nothing.yaml does not exist"]),
        (("run", "--grid", "lowbudget", "--task", "digits"), ["leave out --task"]),
        (("run", "--task", "digit", "--method", "full"), ["unknown task 'digit'", "digits"]),
        (("run", "--task", "digits", "--method", "ful"), ["unknown method 'ful'", "full"]),
        (("run", "--task", "digits", "--method", "full", "--architecture", "wrn-17-1"), ["wrn-16-1 or wrn-22-1"]),
        (("run", "--task", "digits", "--method", "full", "--architecture", "resnt-5"), ["unknown architecture"]),
        (("run", "--task", "digits", "--method", "ssn", "--budget", "-3%"), ["budget '-3%'", "write it as 10%"]),
        (("run", "--task", "digits", "--method", "ssn", "--budget", "0"), ["budget '0' is not positive"]),
        (("run", "--task", "digits", "--method", "ssn", "--budget", "0.0001%"), ["less than one"]),
        (("run", "--task", "digits", "--method", "ssn", "--option", "upsampl=mask"), ["option", "upsample"]),
        (("run", "--task", "digits", "--method", "ssn", "--option", "upsample=x"), ["'mask', 'inter' or 'repeat'"]),
        (("run", "--task", "digits", "--method", "ssn", "--option", "upsample"), ["KEY=VALUE"]),
        (("run", "--task", "digits", "--method", "full", "--epochs", "0"), ["0 epochs"]),
        (("run", "--task", "digits", "--method", "full", "--seeds", "0"), ["--seeds takes"]),
        (("run", "--task", "digits", "--method", "full", "--recipe", "defualt"), ["did you mean default"]),
        ((*FULL, "--recipe", "optimizer=adam"), ["unknown recipe field 'optimizer': did you mean optimiser"]),
        ((*FULL, "--recipe", "momentum=0.9", "--recipe", "optimiser=adam"), ["momentum does not fit optimiser adam"]),
        ((*FULL, "--recipe", "clip=often"), ["clip: 'often' is refused"]),
        ((*FULL, "--recipe", "clip=[1"), ["--recipe 'clip=[1' is no YAML that can be read"]),
        ((*FULL, "--recipe", "=1"), ["--recipe '=1' is not of the form FIELD=VALUE"]),
        ((*FULL, "--recipe", "clip=1", "--recipe", "clip=2"), ["--recipe sets clip twice"]),
        ((*FULL, "--recipe", "epochs=1", "--epochs", "2"), ["--recipe and --epochs both set epochs"]),
        ((*FULL, "--recipe", "short", "--recipe", "default"), ["--recipe names short and default"]),
        ((*FULL, "--recipe", "short", "--short"), ["--short and --recipe both name a recipe"]),
        ((*FULL, "--recipe", "stop_metric=f1"), ["unknown metric 'f1'", "stop_metric is one of error@1, error@5, nll"]),
        (("run", "--grid", "lowbudget", "--recipe", "short"), ["leave out --recipe short"]),
        (("plan", "--grid", "lowbudget", "--recipe", "flop=true"), ["unknown recipe field 'flop': did you mean flip"]),
        (("run", "--task", "digits", "--method", "full", "--device", "gpu"), ["device 'gpu' is not known"]),
        (("run", "--task", "digits", "--method", "full", "--device", "cuda:99"), ["device 'cuda:99'"]),
        (("run", "--task", "digits", "--method", "full", "--executor", "slurm"), ["executor", "'inline', 'ray'"]),
        (("run", "--task", "digits", "--method", "full", "--db", "no/where.db"), ["folder no does not exist"]),
        (("run", "--task", "digits", "--method", "full", "--db", "postgresql://u:p@127.0.0.1:1/x"), ["cannot be"]),
        (("plan", "--task", "digits", "--method", "nope"), ["unknown method 'nope'"]),
        (("leaderboard", "--db", "postgresql://u:p@127.0.0.1:1/x"), ["cannot be reached"]),
        (("run", "--task", "digits", "--method", "full", "--seeds", "1", "--seed", "0"), ["leave one out"]),
        (("run", "--task", "digits", "--method", "full", "--seed", "99999999999999999999"), ["--seed takes"]),
        (("run", "--task", "digits", "--method", "full", "--seeds", "10000000000"), ["--seeds takes"]),
        (("run", "--task", "digits", "--method", "ssn", "--budget", "9999999999999G"), ["more than any network"]),
        (("run", "--task", "digits", "--method", "ssn", "--option", "templates=2024-1-2"), ["integer", "2024-1-2"]),
        (("run", "--task", "digits", "--method", "full", "--recipe", ""), ["unknown recipe"]),
        (("run", "--grid", "lowbudget", "--seeds", "0"), ["leave out --seeds"]),
        (("run", "--grid", "lowbudget", "--db", REPOSITORY / "leaderboard.db"), ["is the published board"]),
        (("run", "--task", "digits", "--method", "full", "--db", ":memory:"), ["names no file"]),
        (("show", "1"), ["runs.db does not exist"]),
        (("show", "first"), ["RUN", "integer"]),
        (("lst",), ["lst"]),
    ],
    ids=lambda value: " ".join(map(str, value[:11])) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_message_exit_code_2_and_nothing_written(arguments, messages, call):
    result = call(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    text = " ".join(result.stderr.split())
    for message in messages:
        assert message in text
    assert list(Path().iterdir()) == []


def test_missing_data_is_said_before_anything_starts(call, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", "nowhere")
    result = call("run", "--task", "cifar10", "--method", "full")
    assert (result.returncode, "Prepare it with" in result.stderr) == (2, True)
    assert list(Path().iterdir()) == []


def test_a_database_of_a_newer_schema_is_refused_with_the_remedy(call):
    import sqlite3

    assert call(*QUICK).returncode == 0
    with sqlite3.connect("runs.db") as connection:
        connection.execute("UPDATE npas_bench_version SET version_num = '9999'")
    before = Path("runs.db").read_bytes()
    for arguments in (QUICK, ("leaderboard",), ("show", "1"), ("plan", *QUICK[1:-2])):
        result = call(*arguments)
        assert (result.returncode, "newer version" in result.stderr) == (2, True), arguments
    assert Path("runs.db").read_bytes() == before


def test_a_failed_cell_is_shown_and_makes_the_exit_code_1(command, monkeypatch, tmp_path):
    site = tmp_path / "site"
    info = site / "breaking-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[npas_bench.methods]\nbreaking = breaking:Breaking\n", encoding="utf-8")
    (site / "breaking.py").write_text(
        "from npas_bench.methods.full import Full\n"
        "class Breaking(Full):\n"
        "    name = 'breaking'\n"
        "    def build(self, problem):\n"
        "        raise ValueError('[bold]on purpose[/bold]')\n",
        encoding="utf-8",
    )
    arguments = [*QUICK, "--method", "breaking"]
    result = command(*arguments, env={"PYTHONPATH": str(site)})
    assert result.returncode == 1, result.stderr
    assert "2 cells: 1 done, 1 failed" in result.stdout
    board = command("leaderboard", "--source", "mine")
    assert "1 failed" in board.stdout
    assert "ValueError: [bold]on purpose[/bold]" in board.stdout
    assert "raise ValueError" in command("show", "2").stdout


def test_the_shipped_board_is_shown_apart_and_never_taken_for_a_finished_cell(call):
    board = call("leaderboard")
    assert "Published board (leaderboard.db)" in board.stdout
    assert "Your runs" not in board.stdout
    assert "90 cells, 84 to run" in call("plan", "--grid", "lowbudget").stdout


def test_the_shipped_board_holds_the_grid_and_is_what_its_results_make(tmp_path):
    from npas_bench.database.opening import locate, open_for_reading
    from npas_bench.database.queries.results import read_results
    from npas_bench.leaderboard.published import build_board

    build_board(REPOSITORY / "results", tmp_path / "board.db")

    def shown(path):
        database = open_for_reading(locate(str(path)), immutable=True)
        results = read_results(database)
        database.close()
        return results

    assert shown(REPOSITORY / "leaderboard.db") == shown(tmp_path / "board.db")
    assert {r.method for r in shown(tmp_path / "board.db") if r.task == "digits"} >= {"full", "reduced", "ssn"}
