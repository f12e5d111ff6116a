"""Text from users, plugins and other people's files is shown as it is, and nothing that is not a terminal is cut."""

import json
import re
import sys
from io import StringIO
from pathlib import Path

import pytest

from npas_bench import plugins
from npas_bench.cli.console import PlainConsole
from tests.conftest import REPOSITORY

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
        (("list", "grids"), [str(path) for path, _ in plugins.grid_files().values()]),
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
    assert [entry["name"] for entry in listed] == (registry.names() if registry else list(plugins.grid_files()))
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
        (("leaderboard", "--db", "rnus.db"), "database rnus.db does not exist"),
        (("compare", "full", "ssn", "--db", "rnus.db"), "database rnus.db does not exist"),
        (("compare", "--table", "Table 99"), "unknown table 'Table 99'"),
        (("download", "digits"), "needs no download: scikit-learn brings its images along"),
        (("download", "imagenet"), "cannot be downloaded: bring its data into"),
    ],
)
def test_a_message_leads_on(call, words, message):
    said = call(*words)
    assert said.returncode == 2
    assert message in " ".join(said.stderr.split())
    assert len(said.stderr) < 600


def test_a_table_is_found_without_its_paper_where_only_one_has_it(call):
    shown = call("compare", "--table", "Table 5").stdout
    assert "Plummer et al. 2022, Table 5" in shown
    assert "Table 9" not in shown


def test_a_database_that_is_not_named_need_not_exist(call):
    assert "Published board" in call("leaderboard").stdout


def test_shells_complete_commands(call):
    assert "--install-completion" in call("--help").stdout
    assert "npas" in call("--show-completion").stdout.lower() or sys.platform == "win32"
