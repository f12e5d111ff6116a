"""Text from users, plugins and other people's files is shown as it is, and nothing that is not a terminal is cut."""

import json
import re
import sys
from io import StringIO
from pathlib import Path

import pytest

from npas_bench import plugins
from npas_bench.cells.grid_files import grid_files
from npas_bench.cli.console import PlainConsole
from tests.conftest import REPOSITORY
from tests.plugin_site import Installed, forget

CELL = ("--task", "digits", "--method", "full", "--seeds", "1", "--short", "--epochs", "1")
RUN = ("run", *CELL, "--executor", "inline")
HOSTILE = [
    "[/old]",
    "[bold]x[/bold]",
    "[link=file:///etc/passwd]x",
    ":x: :smile:",
    "[[a]]",
    "\\[b]",
    "[#ff0000]",
    "[@click=f]",
]


@pytest.fixture
def filled(call):
    assert call(*RUN).returncode == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_a_console_shows_any_text_as_it_is(text):
    out = StringIO()
    console = PlainConsole(out)
    console.print(text, style="red")
    console.print(f"before {text} after", soft_wrap=True)
    assert out.getvalue() == f"{text}\nbefore {text} after\n"


def test_a_console_passes_nothing_on_that_a_terminal_obeys():
    out = StringIO()
    PlainConsole(out).print("a\x1b[31mb\x07c\u202ed")
    assert out.getvalue() == "a\\x1b[31mb\\x07c\\u202ed\n"


@pytest.mark.parametrize("name", ["[/old]runs.db", "runs[final].db", "[bold]runs[/bold].db", "runs:x:.db"])
def test_a_database_s_name_is_no_markup_in_any_command(call, name):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    assert f"Results in {name}" in call(*RUN, "--db", name).stdout
    assert name in call("db", "check", "--db", name).stdout
    assert name in call("status", "--db", name).stdout
    assert name in call("leaderboard", "--source", "mine", "--db", name).stdout
    assert name in call("show", "7", "--db", name).stderr
    assert name in call("plan", *CELL, "--db", name, "--json").stdout
    gone = f"{name}.gone"
    assert gone in call("leaderboard", "--db", gone).stderr


@pytest.mark.parametrize("name", ["[/task]", "[bold]", "no[where]"])
def test_unknown_names_are_told_as_they_were_given(call, name):
    for words in (("run", "--task", name), ("leaderboard", "--task", name), ("plan", "--grid", name)):
        said = call(*words, *(("--method", "full") if words[0] == "run" else ()))
        assert said.returncode == 2
        assert name in said.stderr


def test_no_other_module_makes_a_console_of_its_own():
    found = [
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "npas_bench").rglob("*.py")
        if re.search(r"Console\(|rich\.print|rich import print|from_markup|rich\.markup", path.read_text("utf-8"))
    ]
    # Nor does the one that has the class of all consoles: it derives from it.
    assert found == []


def test_what_goes_into_a_pipe_is_neither_cut_nor_wrapped(call, monkeypatch, capsys, filled):
    from npas_bench.cli.main import main

    monkeypatch.delenv("COLUMNS", raising=False)

    def piped(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([*words])
        assert exit_.value.code == 0
        return capsys.readouterr().out

    for words, expected in (
        (("list", "grids"), [str(path) for path, _ in grid_files().values()]),
        (("list", "methods"), [entry.object for entry in plugins.methods.entries()]),
        (("list", "architectures"), [entry.object for entry in plugins.families.entries()]),
    ):
        lines = piped(*words)
        assert "…" not in lines
        for text in expected:
            assert text in lines
    for words in (
        ("status",),
        ("show", "1"),
        ("plan", "--grid", "lowbudget"),
        ("leaderboard", "--source", "published"),
    ):
        assert "…" not in piped(*words)


@pytest.mark.parametrize("kind", ["methods", "tasks", "architectures", "grids"])
def test_lists_are_there_for_programs(call, kind):
    listed = json.loads(call("list", kind, "--json").stdout)
    registry = {"methods": plugins.methods, "tasks": plugins.tasks, "architectures": plugins.families}.get(kind)
    assert [entry["name"] for entry in listed] == (registry.names() if registry else list(grid_files()))
    assert all(len(entry["about"]) > 10 for entry in listed)


def test_methods_are_listed_with_what_they_are_and_their_options(call):
    shown = call("list", "methods", "--options").stdout
    assert "Trains the architecture itself." in shown
    assert "templates (int, default 8): the largest number of templates that a layer mixes" in " ".join(shown.split())
    entries = json.loads(call("list", "methods", "--options", "--json").stdout)
    options = {entry["name"]: entry["options"] for entry in entries}
    for name, listed in options.items():
        assert [option["name"] for option in listed] == list(plugins.methods.load(name).Options.model_fields)
        assert all(option["about"] for option in listed), name


def test_an_option_without_a_default_is_listed_as_required(call, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    options = """
        import math
        from pydantic import Field
        from npas_bench.methods.base import MethodOptions
        from npas_bench.methods.full import Full

        class Options(MethodOptions):
            gain: float = Field(gt=0)
            names: tuple[str, ...] = Field(default_factory=lambda: ("a",))
            odd: object = math

        class Mine(Full):
            name = "mine"
            Options = Options
    """
    Installed(tmp_path / "site").install({"fine_plugin.py": options})
    try:
        shown = " ".join(call("list", "methods", "--options").stdout.split())
        assert "gain (float, required)" in shown
        entries = {entry["name"]: entry for entry in json.loads(call("list", "methods", "--options", "--json").stdout)}
    finally:
        forget()
    gain, names, odd = entries["mine"]["options"]
    assert (gain["required"], gain["default"]) == (True, None)
    assert (names["required"], names["default"]) == (False, ["a"])
    assert odd["default"].startswith("<module 'math'")


def test_runs_are_listed_with_their_numbers_by_state_and_method(call, filled):
    assert (
        call("run", *CELL[:2], "--method", "ssn", "--budget", "1", "--seeds", "1", "--executor", "inline").returncode
        == 0
    )
    lines = call("runs").stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.split()[0].isdigit()] == [["2", "unsupported"], ["1", "done"]]
    assert "error@1" in lines[-1]
    assert "smallest possible" in lines[1] + lines[2]
    only = json.loads(call("runs", "--state", "done", "--json").stdout)
    assert [(run["run"], run["state"], run["metric"]) for run in only] == [(1, "done", "error@1")]
    assert [run["run"] for run in json.loads(call("runs", "--method", "ssn", "--json").stdout)] == [2]
    assert [run["run"] for run in json.loads(call("runs", "--limit", "1", "--json").stdout)] == [2]
    assert "--limit 2 shows more" in call("runs", "--limit", "1").stdout
    assert call("runs", "--state", "failed").stdout == "no such run in runs.db\n"


def test_a_failure_names_its_run(call, monkeypatch):
    from npas_bench.tasks.classification.digits import Digits

    def broken(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Digits, "loss", broken)
    said = call(*RUN)
    assert said.returncode == 1
    assert "run 1 failed digits" in said.stdout
    assert "npas-bench runs --state failed lists what failed" in said.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("leaderboard", "--method", "nothere"), "unknown method 'nothere': known: albert, full"),
        (("leaderboard", "--from-budget", "400%"), "no results for budgets from 400%: there are some of"),
        (("leaderboard", "--from-budget", "50%", "--to-budget", "1%", "--format", "csv"), "to 1%: there are some of"),
        (
            ("leaderboard", "--task", "digits", "--architecture", "wrn-16-1", "--metric", "ece", "--to-budget", "1"),
            "no results for task digits, architecture wrn-16-1, metric ece, budgets to 1: there are some of digits",
        ),
        (("leaderboard", "--db", "rnus.db"), "database rnus.db does not exist"),
        (
            ("dashboard", "--db", "rnus.db", "--address", "no.such.host.invalid"),
            "database rnus.db does not exist",
        ),
        (("compare", "full", "ssn", "--db", "rnus.db"), "database rnus.db does not exist"),
        (("compare", "--table", "Table 99"), "unknown table 'Table 99'"),
        (("download", "digits"), "needs no download: scikit-learn brings its images along"),
        (("download", "imagenet"), "cannot be downloaded: the images are given out at https://image-net.org/download"),
        (
            ("download", "image-folder:/x"),
            "bring your images to /x/train/CLASS/ and /x/val/CLASS/, in a",
        ),
    ],
)
def test_a_message_leads_on(call, words, message):
    said = call(*words)
    assert said.returncode == 2
    assert message in " ".join(said.stderr.split())
    assert len(said.stderr) < 600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "nothere"), "unknown method 'nothere': known: full (of those with runs)"),
        (("--method", "ful"), "did you mean full?"),
        (("--task", "nothere", "--json"), "unknown task 'nothere': known: digits"),
        (("--grid", "nothere"), "unknown grid 'nothere'"),
        (("--budget", "50%"), "no run has a budget of 50%: there are runs at 100%"),
        (("--budget", "half"), "budget 'half' is not a positive amount"),
        (("--since", "yesterday"), "--since 'yesterday' is no moment"),
        (("--since", "999999w"), "--since '999999w' is no moment"),
        (("--since", "0001-01-01T00:00+23:00"), "is no moment"),
    ],
)
def test_a_filter_of_runs_that_names_nothing_says_what_there_is(call, filled, words, message):
    said = call("runs", *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert message in " ".join(said.stderr.split())


def test_runs_are_chosen_by_budget_and_age_and_tell_their_age(call, filled):
    listed = json.loads(call("runs", "--json").stdout)
    assert listed[0]["moment"] == listed[0]["finished"]
    for words in (("--budget", "100%"), ("--budget", "1x"), ("--budget", "77562"), ("--since", "1h")):
        assert json.loads(call("runs", *words, "--json").stdout) == listed
    assert call("runs", "--since", "2999-01-01").stdout == "no such run in runs.db\n"
    assert re.search(r"· \d+ s ago$", call("runs").stdout.strip())


@pytest.mark.parametrize(
    "names",
    [
        ("--method", "nothere"),
        ("--task", "nothere"),
        ("--grid", "nothere"),
        ("--grid", "lowbudget"),
        ("--budget", "50%"),
        ("--method", "nothere", "--budget", "50%"),
    ],
)
def test_a_database_without_runs_blames_no_filter(call, filled, names):
    import sqlite3

    with sqlite3.connect("runs.db") as database:
        for table in ("metrics", "runs", "cells"):
            database.execute(f"DELETE FROM {table}")
    database.close()
    said = call("runs", *names)
    assert (said.returncode, said.stdout) == (0, "no such run in runs.db\n")


def test_a_table_is_found_without_its_paper_where_only_one_has_it(call):
    shown = call("compare", "--table", "Table 5").stdout
    assert "Plummer et al. 2022, Table 5" in shown
    assert "Table 9" not in shown


def test_a_database_that_is_not_named_need_not_exist(call):
    assert "Published board" in call("leaderboard").stdout


def test_a_missing_database_that_the_environment_names_is_told(call, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DB", "rnus.db")
    said = call("leaderboard")
    assert said.returncode == 0
    assert "Published board" in said.stdout
    assert "database rnus.db does not exist, which NPAS_BENCH_DB names" in said.stderr
    assert call("leaderboard", "--source", "published").stderr == ""


@pytest.mark.parametrize(
    ("words", "option", "begun", "names"),
    [
        ("run", "method", "s", ["ssn", "superweights", "swrn"]),
        ("run", "grid", "low", ["lowbudget"]),
        ("plan", "task", "cifar", ["cifar10", "cifar100"]),
        ("runs", "grid", "low", ["lowbudget"]),
        ("status", "grid", "low", ["lowbudget"]),
        ("download", "task", "dig", ["digits"]),
        ("leaderboard", "method", "[", []),
    ],
)
def test_shells_complete_names(words, option, begun, names):
    import typer

    from npas_bench.cli.main import app

    command = typer.main.get_command(app).commands[words]
    parameter = next(
        one for one in command.params if option in (one.name.rstrip("s"), *one.opts, one.opts[0].strip("-"))
    )
    context = command.context_class(command)
    assert [item.value for item in parameter.shell_complete(context, begun)] == names


def test_shells_complete_commands(call):
    assert "--install-completion" in call("--help").stdout
    assert "npas" in call("--show-completion").stdout.lower() or sys.platform == "win32"
