"""Export, import, and looking after a database, as a user meets them."""

import json
import sqlite3
from pathlib import Path

import pytest

from npas_bench.database.opening import locate
from npas_bench.database.schema import REVISION
from tests.conftest import REPOSITORY
from tests.database.test_border import with_cell
from tests.database.test_exchange import file_of, record
from tests.database.test_opening import old

RESULTS = REPOSITORY / "results" / "lowbudget-cpu.jsonl"


def test_results_go_from_one_database_to_another(call):
    added = call("import", RESULTS)
    assert (added.returncode, added.stdout) == (0, "150 runs added. Results in runs.db\n"), added.stderr
    again = call("import", RESULTS, RESULTS)
    assert again.stdout == "0 runs added, 300 were there already. Results in runs.db\n"
    out = call("export", "--out", "mine.jsonl", "--grid", "lowbudget", "--task", "digits")
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "mine.jsonl: 150 runs\n")
    assert call("import", "mine.jsonl", "--db", "other.db").stdout == "150 runs added. Results in other.db\n"
    mine, other = (call("leaderboard", "--source", "mine", "--db", name).stdout for name in ("runs.db", "other.db"))
    assert mine.replace("runs.db", "other.db") == other
    assert "hashednets" in other
    assert "lowbudget-cpu.jsonl" in call("show", "3", "--db", "other.db").stdout
    assert {path.name.removesuffix(".lock") for path in Path().iterdir()} == {"runs.db", "other.db", "mine.jsonl"}


def test_an_export_goes_to_the_standard_output_or_a_new_file(call):
    call("import", RESULTS)
    piped = call("export", "--out", "-")
    assert len([json.loads(line) for line in piped.stdout.splitlines()]) == 150
    Path("mine.jsonl").write_text("before", encoding="utf-8")
    refused = call("export", "--out", "mine.jsonl")
    assert (refused.returncode, "add --force to write over it" in refused.stderr) == (2, True)
    assert Path("mine.jsonl").read_text(encoding="utf-8") == "before"
    assert call("export", "--out", "mine.jsonl", "--force").returncode == 0
    assert Path("mine.jsonl").read_text(encoding="utf-8") == piped.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export",), "--out"),
        (("export", "--out", "x.jsonl"), "runs.db does not exist"),
        (("import",), "FILE"),
        (("import", "nothing.jsonl"), "nothing.jsonl does not exist"),
        (("import", "."), "is a folder"),
        (("import", RESULTS, "--db", "no/where.db"), "folder no does not exist"),
        (("import", RESULTS, "--db", REPOSITORY / "leaderboard.db"), "is the published board"),
        (("db", "upgrade"), "runs.db does not exist"),
        (("db", "check"), "runs.db does not exist"),
        (("db", "check", "--db", "postgresql://u:p@127.0.0.1:1/x"), "cannot be reached"),
        (("db", "mend"), "mend"),
    ],
)
def test_a_mistake_is_one_message_exit_code_2_and_nothing_written(arguments, message, call):
    result = call(*arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert message in " ".join(result.stderr.split())
    assert list(Path().iterdir()) == []


def test_a_bad_file_makes_no_database_and_is_named_with_its_line(call):
    file_of(record(0), record(1) | {"format": 6}, name="new.jsonl")
    result = call("import", "new.jsonl")
    assert result.returncode == 2
    assert result.stderr == (
        "npas-bench: new.jsonl, line 2, is no record of a run: has format 6: made by a newer npas-bench; update with "
        "pip install -U npas-bench\n"
    )
    assert [path.name for path in Path().iterdir()] == ["new.jsonl"]


def test_what_came_from_elsewhere_cannot_command_the_terminal(call):
    hostile = "[red]x[/] [/] \x1b[31m\x07\x9b \N{RIGHT-TO-LEFT OVERRIDE}"
    plain = r"[red]x[/] [/] \x1b[31m\x07\x9b \u202e"
    made = record(0, data_label=hostile, device=hostile, versions={hostile: hostile}, structure={})
    made["metrics"] = [made["metrics"][0] | {"name": hostile, "unit": "[b]\x1b"}]
    name = "[red]\x1b.jsonl"
    failed = record(1, state="failed", message=hostile, detail=f"one\n{hostile}", ledger=None, parameters=None)
    # Of the version that is installed the metrics are known, and no other names are taken.
    made["cell"] |= with_cell(0, task_version=0)["cell"] | {"budget_text": "[red]1%\x1b"}
    failed["cell"] = with_cell(1, task_version=0)["cell"]
    file_of(made, failed, name=name)
    assert call("import", name).returncode == 0
    shown = [
        call("leaderboard", "--source", "mine"),
        call("show", "1"),
        call("show", "2"),
        call("leaderboard", "--source", "mine", "--metric", "[red]x[/]"),
        call("import", name, "\x1b[31m.jsonl"),
    ]
    for result in shown:
        assert not {"\x1b", "\x07", "\x9b", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(result.stdout + result.stderr), result
    assert [result.returncode for result in shown] == [0, 0, 0, 2, 2]
    for result in shown[:3]:
        assert plain in " ".join(result.stdout.split()), result
    assert r"[red]\x1b.jsonl" in shown[1].stdout


def test_an_old_database_is_upgraded_and_kept(call):
    old(locate("runs.db"), "0001")
    assert "npas-bench db upgrade --db runs.db" in call("leaderboard").stderr
    upgraded = call("db", "upgrade")
    assert (
        upgraded.stdout == f"database runs.db brought from schema 0001 to {REVISION}; as it was, it is runs.db.0001\n"
    )
    assert Path("runs.db.0001").exists()
    assert call("db", "upgrade").stdout == f"database runs.db has schema {REVISION} already: nothing to do\n"
    assert call("leaderboard", "--source", "mine").returncode == 0


def test_a_check_says_what_is_wrong_and_how_to_mend_it(call):
    call("import", RESULTS)
    well = call("db", "check")
    assert (well.returncode, well.stdout) == (0, "database runs.db: all is well\n")
    with sqlite3.connect("runs.db") as connection:
        connection.execute("UPDATE runs SET board = 'x', current = 0 WHERE id IN (4, 5)")
        connection.execute("UPDATE runs SET state = 'stale' WHERE id = 9")
    wrong = call("db", "check")
    assert wrong.returncode == 1
    lines = wrong.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("3 cells have no run, or several, that boards show: see run 4, 5, 9. ")
    assert lines[1].startswith("2 runs stand on another board than the cell: 4, 5. Export the database")
    assert lines[2].startswith("1 run was left behind by a driver that lives no more: 9. The command that")
