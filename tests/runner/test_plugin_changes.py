"""The code of plugins is recorded with runs, and runs of other code than there is now are told about."""

import json
import re
from pathlib import Path

import pytest

from npas_bench.cells.cell import Cell
from npas_bench.database.access import opened
from npas_bench.database.opening import locate
from npas_bench.database.queries.results import find_run
from npas_bench.runner.execution import execute
from npas_bench.runner.plugin_changes import changed_plugins
from npas_bench.runner.work import Attempt, Work
from npas_bench.tasks.classification.digits import Digits
from tests.plugin_site import METHOD, Installed, forget

CELL = ("--task", "digits", "--method", "mine", "--seeds", "1", "--short", "--epochs", "2")
RUN = ("run", *CELL, "--executor", "inline")
EDITED = f"{METHOD}\n    # An edit.\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Installed(tmp_path / "site").install({"fine_plugin.py": METHOD})
    forget()


def stored(run=1, database="runs.db"):
    with opened(locate(database)) as opened_database:
        return find_run(opened_database, run)


def words(text):
    return " ".join(text.split())


def test_a_finished_run_tells_its_plugins_wherever_it_goes_and_an_edit_is_told_about(installed, call, caplog):
    code = installed.code()
    assert call(*RUN).returncode == 0
    assert stored().plugins == [code._asdict()]
    shown = words(call("show", "1").stdout)
    assert f"method mine of fine-plugin 1.5, sources {code.digest}" in shown
    assert caplog.messages == []

    installed.install({"fine_plugin.py": EDITED})
    edited = installed.code()
    message = f"{edited} was fine-plugin 1.5 (sources {code.digest[:8]}) before: 1 result was made with other code"
    assert message in words(call("plan", *CELL).stdout)
    assert message in json.loads(call("plan", *CELL, "--json").stdout)["changed_plugins"][0]
    assert "1 done" in call(*RUN).stdout
    assert message in caplog.text

    again = words(call("reproduce", "1").stdout)
    assert f"The run was made with {code}, and this is {edited}." in again
    assert stored(2).plugins == [edited._asdict()]
    assert f"The code of {edited} is that of the run." in words(call("reproduce", "2").stdout)

    assert call("export", "--out", "mine.jsonl").returncode == 0
    assert json.loads(Path("mine.jsonl").read_text(encoding="utf-8").splitlines()[0])["format"] == 5
    assert call("import", "mine.jsonl", "--db", "theirs.db").returncode == 0
    assert stored(1, "theirs.db").plugins == [code._asdict()]
    # An imported run of other code is told about like one's own.
    assert message in words(call("plan", *CELL, "--db", "theirs.db").stdout)

    installed.install({"fine_plugin.py": METHOD})
    assert "before:" not in call("plan", *CELL).stdout


def test_a_run_that_goes_on_with_other_code_is_told_about(installed, call, caplog):
    code = installed.code()
    stopped = call(*RUN, "--deadline", "0.001")
    assert "1 failed" in stopped.stdout
    assert stored().plugins == [code._asdict()]
    installed.install({"fine_plugin.py": EDITED})
    assert "1 unfinished run goes on from what other code had reached" in words(call("plan", *CELL).stdout)
    assert "1 done" in call(*RUN).stdout
    assert "1 unfinished run goes on from what other code had reached" in caplog.text
    assert stored(2).plugins == [installed.code()._asdict()]


def test_runs_without_third_party_plugins_record_none(call):
    assert call("run", "--task", "digits", "--method", "reduced", "--budget", "5%", *CELL[4:]).returncode == 0
    assert stored().plugins is None
    assert "plugins" not in call("show", "1").stdout
    call("export", "--out", "mine.jsonl")
    assert "plugins" not in json.loads(Path("mine.jsonl").read_text(encoding="utf-8"))["run"]


def test_a_worker_with_other_code_of_a_plugin_refuses_its_cells(installed, tmp_path):
    here = installed.code()
    there = here._replace(digest="0123456789abcdef", version="1.4")
    recipe = Digits().recipes("wrn-10-1")["short"].derive(epochs=1)
    cell = Cell("digits", 1, "wrn-10-1", "mine", 1, {}, 77_562, recipe, 0)
    attempt = Attempt(Work(cell, Digits().source(), "cpu", plugins=(there,)), "t", tmp_path / "work")
    outcome = execute(attempt, lambda report: None)
    assert outcome.state == "failed"
    assert re.search(
        r"fine-plugin 1.5 .* differs from the driver's .*fine-plugin 1.4 \(sources 01234567\)", outcome.message
    )


def test_only_code_that_is_recorded_and_here_is_compared(installed):
    code = installed.code()
    other = code._replace(digest="0" * 16)
    assert changed_plugins(None, [code]) == []
    assert changed_plugins([code._asdict()], [code]) == []
    assert changed_plugins([other._asdict()], []) == []
    assert changed_plugins([other._asdict() | {"name": "another"}], [code]) == []
    # Records of later versions may tell more.
    assert changed_plugins([other._asdict() | {"more": 1}], [code]) == [(other, code)]
    # The same code from another distribution or version is the same.
    assert changed_plugins([code._asdict() | {"version": "1.6", "distribution": "x"}], [code]) == []
