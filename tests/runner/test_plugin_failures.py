"""However the code of a plugin fails, and whenever, the plugin is named, and no other cell is lost."""

import json

import pytest

from npas_bench.cells.grid import Block, Grid, MethodEntry
from npas_bench.cells.recipes import Change, RecipeEntry
from npas_bench.errors import OptionError, PluginError
from npas_bench.runner.launch import plan_cells
from tests.plugin_site import METHOD, Installed, forget

TASK = """
    from npas_bench.tasks.classification.digits import Digits

    class Mine(Digits):
        name = "mine"
"""
FAMILY = """
    from npas_bench.architectures.wrn import WideResNetFamily

    class Mine(WideResNetFamily):
        name = "mine"
        pattern = "mine-N"
"""
POINTS = "[npas_bench.{kind}]\nmine = fine_plugin:Mine\n"
FAILURES = {
    "ValueError: no luck": 'raise ValueError("no luck")',
    "SystemExit: 0": "raise SystemExit(0)",
    "CancelledError: over": 'import asyncio; raise asyncio.CancelledError("over")',
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Installed(tmp_path / "site")
    forget()


def planned(task="digits", architecture="wrn-10-1", method="full", **recipe):
    chosen = RecipeEntry.model_validate(recipe)
    methods = (MethodEntry(name=method),)
    block = Block(tasks=(task,), architectures=(architecture,), methods=methods, seeds=(0,), recipe=chosen)
    return plan_cells(Grid(blocks=(block,)), Change(), "cpu")


UNREADABLE = "options = property(lambda self: fail(), lambda self, value: None)"
PLACES = {
    "method, when it is made": ("methods", METHOD, "def __init__(self, options=None)"),
    "method, its options": ("methods", METHOD, f"{UNREADABLE}\n        def unused(self)"),
    "architecture, parsing": ("architectures", FAMILY, "def parse(self, name)"),
    "task, when it is made": ("tasks", TASK, "def __init__(self)"),
    "task, its data": ("tasks", TASK, "def source(self)"),
    "task, its recipes": ("tasks", TASK, "def recipes(self, architecture)"),
    "task, its opinion of a recipe": ("tasks", TASK, "def recipe_refusal(self, recipe)"),
    "task, its splits": ("tasks", TASK, "def splits(self)"),
}


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize("place", PLACES)
def test_a_plugin_that_fails_while_cells_are_planned_is_named(installed, place, error):
    group, code, head = PLACES[place]
    if "options" in place:
        code = f"\n    def fail():\n        {FAILURES[error]}\n{code}"
    installed.install(
        {"fine_plugin.py": f"{code}\n        {head}:\n            {FAILURES[error]}\n"},
        **{"entry_points.txt": POINTS.format(kind=group)},
    )
    kind = {"methods": "method", "architectures": "architecture", "tasks": "task"}[group]
    names = {kind: "mine-1" if kind == "architecture" else "mine"}
    with pytest.raises(PluginError) as caught:
        planned(**names)
    assert str(caught.value).startswith(f"{kind} 'mine' of fine-plugin 1.5 fails: {error} (")
    assert "fine_plugin.py, line" in str(caught.value)


def test_a_family_that_makes_no_architecture_is_named(installed):
    code = f"{FAMILY}\n        def parse(self, name):\n            return None\n"
    installed.install({"fine_plugin.py": code}, **{"entry_points.txt": POINTS.format(kind="architectures")})
    with pytest.raises(PluginError, match=r"architecture 'mine' of .* 1.5: parse returned None, where Architecture"):
        planned(architecture="mine-1")


def test_a_task_that_tells_no_version_of_its_data_is_named(installed):
    code = f"{TASK}\n        def source(self):\n            return 'all of it'\n"
    installed.install({"fine_plugin.py": code}, **{"entry_points.txt": POINTS.format(kind="tasks")})
    with pytest.raises(PluginError, match=r"task 'mine' of .* 1.5: source returned 'all of it', where DataVersion"):
        planned(task="mine")


def test_an_error_of_the_package_passes_as_it_is(installed):
    code = f"""{METHOD}
        def __init__(self, options=None):
            from npas_bench.errors import OptionError
            raise OptionError("gain has to be positive")
    """
    installed.install({"fine_plugin.py": code})
    with pytest.raises(OptionError, match=r"^gain has to be positive$"):
        planned(method="mine")


EXITS = """
        whole = False

        def build(self, problem):
            print("hello")
            raise SystemExit(0)
"""


def test_a_plan_and_a_run_go_on_past_a_method_that_ends_the_program(installed, call):
    installed.install({"fine_plugin.py": f"\n    print('at import')\n{METHOD}\n{EXITS}"})
    cells = ("--task", "digits", "--method", "mine", "--budget", "10%", "--seed", "0", "--short", "--epochs", "1")
    told = json.loads(call("plan", *cells, "--method", "reduced", "--json").stdout)
    mine, reduced = told["kinds"]
    assert (mine["trouble"], reduced["trouble"]) == ("would fail", None)
    assert "fine_plugin:Mine) tried to end the program: SystemExit: 0" in mine["reason"]
    said = call("run", *cells, "--executor", "inline")
    assert said.returncode == 1
    assert "1 failed" in said.stdout


def test_a_recipe_is_looked_at_with_a_network_whose_method_ends_the_program(installed):
    installed.install({"fine_plugin.py": f"{METHOD}\n{EXITS}"})
    (one,) = planned(method="mine", learning_rate_factors={"stem": 0.5})
    assert one.cell.method == "mine"


def test_what_a_plugin_prints_at_its_import_is_no_part_of_json(installed, call):
    installed.install({"fine_plugin.py": f"\n    print('hello from the plugin')\n{METHOD}"})
    said = call("list", "methods", "--json")
    assert "mine" in [entry["name"] for entry in json.loads(said.stdout)]
    assert "hello from the plugin" in said.stderr
