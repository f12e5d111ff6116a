"""What `npas-bench plan` says of the cost of a grid, and that `run` puts the longest first."""

import json
import re
from pathlib import Path

import pytest

from npas_bench.database.exchange.importing import add_records
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.runner.executors import Executor, InlineExecutor
from tests.conftest import REPOSITORY
from tests.plugin_site import METHOD, Installed, forget


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """A database with the published runs of the grid `lowbudget`, whose cells are all to run with more epochs."""
    path = tmp_path_factory.mktemp("past") / "past.db"
    database = open_for_writing(locate(str(path)))
    add_records(database, [REPOSITORY / "results" / "lowbudget-cpu.jsonl"])
    database.close()
    return path


def test_a_plan_tells_time_memory_disk_and_its_own_error_in_eighty_columns(past, call):
    plan = call("plan", "--grid", "lowbudget", "--epochs", "30", "--db", past, "--workers", "2")
    assert plan.returncode == 0, plan.stderr
    assert "90 cells, 84 to run, 6 unsupported, on cpu" in plan.stdout
    assert re.search(r"superweights +25% +19,376 +3 +to run +\d+(\.\d)? s +\d+ MiB", plan.stdout)
    text = " ".join(plan.stdout.split())
    for pattern in (
        r"CPU time \d+ min \d\d s",
        r"on 2 CPU threads finished at \d\d:\d\d.*, in \d+ min \d\d s",
        r"memory \d+ MiB a worker",
        r"disk .* of checkpoints while it runs; the database grows by \d+ KiB",
        r"forecast 84 from runs of their kind \(\d+ past runs\)",
        r"past runs right within a factor of 1.5: \d+ % of \d+ from others of their kind, \d+ % of \d+ without any",
    ):
        assert re.search(pattern, text), pattern
    lines = [line for line in plan.stdout.splitlines() if "results in" not in line]
    assert max(map(len, lines)) <= 80


def test_more_workers_finish_earlier(past, call):
    def outlook(workers):
        shown = call("plan", "--grid", "lowbudget", "--epochs", "30", "--db", past, "--workers", workers, "--json")
        return json.loads(shown.stdout)["outlook"]

    two, eight = outlook(2), outlook(8)
    assert two["device_seconds"] == pytest.approx(eight["device_seconds"])
    assert 2 < two["seconds"] / eight["seconds"] <= 4


def test_a_long_plan_shows_some_rows_and_counts_all(call):
    plan = call("plan", "--grid", "lowbudget", "--limit", "3")
    assert plan.stdout.count("to run  ") == 3
    assert "and 27 more rows, of 81 cells" in plan.stdout
    assert "90 cells, 84 to run, 6 unsupported" in plan.stdout
    assert list(Path().iterdir()) == []


def test_json_has_every_kind(call):
    plan = json.loads(call("plan", "--grid", "lowbudget", "--limit", "3", "--json").stdout)
    assert (plan["cells"], plan["to_run"], len(plan["kinds"])) == (90, 84, 30)
    assert sum(kind["cells"] for kind in plan["kinds"]) == 90
    assert {kind["trouble"] for kind in plan["kinds"]} == {None, "unsupported"}
    assert plan["outlook"]["cells"] == 84


class Workers(Executor):
    """As one that runs several cells at a time."""

    def run(self, works, listener):
        self.seen = list(works)
        InlineExecutor().run(works, listener)


def test_a_run_on_several_workers_begins_with_the_longest(past, call, monkeypatch):
    workers = Workers()
    monkeypatch.setattr("npas_bench.runner.launch.choose_executor", lambda *_: workers)
    methods = ("--method", "full", "--method", "superweights", "--budget", "25%")
    ran = call("run", "--task", "digits", *methods, "--epochs", "4", "--seeds", "1", "--db", past)
    assert ran.returncode == 0, ran.stderr
    assert [work.cell.method for work in workers.seen] == ["superweights", "full"]
    assert all(work.memory > 2**20 for work in workers.seen)


PLAN = ("plan", "--task", "digits", "--seeds", "2")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Installed(tmp_path / "site")
    forget()


def method_of(body):
    return {"fine_plugin.py": f"{METHOD}\n{body}"}


WITHOUT_META = """
        def build(self, problem):
            import torch
            torch.zeros(3).tolist()
            float(torch.zeros(1))
            return super().build(problem)
"""
OVER_BUDGET = """
        whole = False

        def build(self, problem):
            import dataclasses
            return super().build(dataclasses.replace(problem, budget=10**9))
"""
BROKEN = """
        def build(self, problem):
            raise RuntimeError("no luck")
"""


def test_a_plan_says_what_a_run_does_of_budgets_that_are_refused(call):
    cells = (*PLAN, "--method", "ssn", "--budget", "5%", "--budget", "1")
    said = call(*cells)
    assert "4 cells, 2 to run, 2 unsupported, on cpu" in said.stdout
    told = json.loads(call(*cells, "--json").stdout)
    assert (told["cells"], told["to_run"]) == (4, 2)
    # Rows that are not shown are counted like those that are.
    assert "4 cells, 2 to run, 2 unsupported" in call(*cells, "--limit", "0").stdout


@pytest.mark.parametrize(
    ("body", "budget", "told", "ends"),
    [
        (WITHOUT_META, "100%", "2 cells, 2 to run, on cpu", "2 done"),
        (OVER_BUDGET, "5%", "2 cells, 0 to run, 2 would fail, on cpu", "2 failed"),
        (BROKEN, "100%", "2 cells, 0 to run, 2 would fail, on cpu", "2 failed"),
    ],
)
def test_a_plan_of_a_plugin_says_what_its_run_does(installed, call, body, budget, told, ends):
    installed.install(method_of(body))
    cells = ("--task", "digits", "--method", "mine", "--budget", budget, "--seeds", "2", "--short", "--epochs", "1")
    said = call("plan", *cells).stdout
    assert told in said
    assert ("would fail" in said) == ("would fail" in told)
    assert ends in call("run", *cells, "--executor", "inline").stdout


UNTRAINABLE = {
    "a factor of nothing": (
        ("--recipe", "learning_rate_factors={nothere: 2.0}"),
        "learning_rate_factors names 'nothere', which the network does not have: name a role (fixed, store",
    ),
    "a part of a branch's name": (
        ("--recipe", "weight_decay_factors={stage: 2.0}"),
        "weight_decay_factors names 'stage', which the network does not have",
    ),
    "a zoom": (("--recipe", "zoom=0.5"), "task digits has its images at one size: a recipe cannot zoom into them"),
    "nothing to validate on": (
        ("--recipe", "reported=best", "--recipe", "validation=0.0001"),
        "validation 0.0001 of the 1,201 training examples of task digits is 0: choose a share that leaves some",
    ),
    "nothing to train on": (("--recipe", "validation=0.9999"), "training examples of task digits is 1,201"),
    "more parts than examples": (
        ("--recipe", "batch_size=4000", "--parts", "2000"),
        "1,201 training examples cannot be cut into batches of 2,000 parts",
    ),
    "more parts than examples that are left": (
        ("--recipe", "validation=0.99", "--parts", "20"),
        "12 training examples cannot be cut into batches of 20 parts",
    ),
}


@pytest.mark.parametrize(("changes", "told"), UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_a_recipe_that_nothing_can_be_trained_by_is_refused_by_plan_and_run_alike(changes, told, call):
    cells = ("--task", "digits", "--method", "reduced", "--budget", "10%", "--seed", "0", "--epochs", "1", *changes)
    planned, ran = call("plan", *cells), call("run", *cells, "--executor", "inline")
    assert (planned.returncode, ran.returncode) == (2, 2)
    assert told in planned.stderr
    assert planned.stderr == ran.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        ("learning_rate_factors={classifier: 0.5, biases: 2}",),
        ("weight_decay_factors={stages.0: 0.5}",),
        ("reported=best", "validation=0.001"),
        ("batch_size=2000", "parts=1201"),
    ],
    ids=" ".join,
)
def test_a_recipe_that_just_fits_is_planned(changes, call):
    recipe = [word for change in changes for word in ("--recipe", change)]
    planned = call("plan", "--task", "digits", "--method", "ssn", "--budget", "10%", "--seed", "0", *recipe)
    assert "1 cells, 1 to run" in planned.stdout, planned.stderr


@pytest.mark.parametrize("ending", ["import sys; sys.exit(3)", "raise BaseException('x')", "exit()"])
def test_a_plugin_that_ends_the_program_at_its_import_is_named(installed, call, ending):
    installed.install({"fine_plugin.py": ending})
    for words in ((*PLAN, "--method", "mine"), ("run", "--task", "digits", "--method", "mine")):
        said = call(*words)
        assert said.returncode == 2
        assert "method 'mine' of fine-plugin 1.5 cannot be imported from fine_plugin:Mine" in said.stderr
    listed = call("list", "methods", "--check")
    assert listed.returncode == 1
    assert "method 'mine' of fine-plugin 1.5 cannot be imported" in listed.stderr
    assert "cannot be loaded" in listed.stdout
    assert "Trains the architecture itself." in listed.stdout
