"""`status` and `cancel` as a user meets them."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from npas_bench.database.drivers import CodeVersion, enter, leave
from npas_bench.database.opening import locate, open_beside, open_for_writing
from npas_bench.database.queries.results import find_run
from npas_bench.database.queries.status import read_status
from npas_bench.database.runs import add_runs, cancel_runs, claim_run, finish_run
from npas_bench.database.schema import DriverRow
from tests import processes
from tests.database.test_runs import cell, finished, metric, run

CODE = CodeVersion("1", "code")


@pytest.fixture
def database():
    """`runs.db`, open for writing, as by a driver."""
    opened = open_for_writing(locate("runs.db"))
    yield opened
    opened.close()


@pytest.fixture
def busy(database):
    """One run done, one running, one pending of grid g; one pending of grid h."""
    names = "abcd"
    finished(database, "a")
    add_runs(database, [cell(n) for n in names], [run(n, grid="h" if n == "d" else "g") for n in names[1:]])
    claim_run(database, 2, enter(database, CODE), "token", {})
    return database


def states(database):
    return [find_run(database, number).state for number in range(1, 5)]


def test_status_shows_each_grid_its_running_cells_and_drivers(busy, call):
    driver = find_run(busy, 2).driver
    shown = call("status")
    assert shown.returncode == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["runs.db", "·", "1", "driver", "at", "work"] in lines
    assert ["Grid", "done", "running", "pending", "of"] in lines
    assert ["(no", "grid)", "1", "1"] in lines
    assert ["g", "1", "1", "2"] in lines
    assert ["h", "1", "1"] in lines
    row = next(line for line in lines if line[:1] == ["2"])
    assert row[1:7] == ["digits", "wrn-10-1", "full", "100%", "seed", "0"]
    assert (row[7], row[8], row[-1]) == ("0/3", "1", "#1")
    assert f"#1 process {os.getpid()} on" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    one = call("status", "--grid", "h")
    assert ("(no grid)" in one.stdout, "Run" in one.stdout) == (False, False)
    claim_run(busy, 3, driver, "token", {})
    cut = call("status", "--limit", "1")
    assert "and 1 more: --limit shows more of them" in cut.stdout


def test_what_a_dead_driver_left_is_stale_and_status_says_what_takes_it_up(busy, call):
    with busy.session.begin() as session:
        for driver in session.query(DriverRow):
            driver.pid = 2**22 + 1
    shown = call("status")
    assert "1 run is stale: npas-bench run --grid g --only stale --db runs.db takes them up" in shown.stdout
    assert "is dead, left 1 run behind" in shown.stdout
    assert states(busy) == ["done", "running", "pending", "pending"]


def test_status_as_json(busy, call):
    record = json.loads(call("status", "--json").stdout)
    assert [(grid["grid"], grid["counts"]["pending"]) for grid in record["grids"]] == [(None, 0), ("g", 1), ("h", 1)]
    (running,) = record["under_way"]
    assert (running["run"], running["state"], running["epochs"], running["attempt"]) == (2, "running", 3, 1)
    (driver,) = record["drivers"]
    assert (driver["pid"], driver["alive"], driver["running"]) == (os.getpid(), True, 1)
    assert running["driver"] == driver["id"]


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_says_what_changes_and_ends_when_nothing_is_left(busy, call, monkeypatch, as_json):
    monkeypatch.setattr("npas_bench.cli.status._LOOK_SECONDS", 0.05)
    looks = []

    def read_and_count(*arguments, **named):
        found = read_status(*arguments, **named)
        looks.append(found)
        return found

    monkeypatch.setattr("npas_bench.database.queries.status.read_status", read_and_count)

    def wait_for_a_look():
        """Until a look has ended that began after this call."""
        seen = len(looks)
        while len(looks) < seen + 2:
            time.sleep(0.01)

    def act():
        wait_for_a_look()
        assert finish_run(busy, 2, "token", {"state": "done"}, [metric(1)])
        wait_for_a_look()
        cancel_runs(busy)

    acting = threading.Thread(target=act)
    acting.start()
    watched = call("status", "--watch", *(["--json"] if as_json else []))
    acting.join()
    assert watched.returncode == 0
    lines = watched.stdout.splitlines()
    if as_json:
        assert [json.loads(line)["grids"][1]["counts"]["done"] for line in lines] == [0, 1, 1]
    else:
        said = [line.split(" ", 1)[1] for line in lines]
        assert said[:3] == [
            "(no grid): 1/1 ended · 1 done",
            "g: 0/2 ended · 1 running · 1 pending",
            "h: 0/1 ended · 1 pending",
        ]
        assert said[3:] == [
            "g: 1/2 ended · 1 done · 1 pending",
            "g: 1/2 ended · 1 done · 1 cancelled",
            "h: 0/1 ended · 1 cancelled",
        ]


def test_watching_ends_with_ctrl_c_and_holds_no_driver_up(busy, tmp_path):
    watching = subprocess.Popen(
        [sys.executable, "-u", "-m", "npas_bench.cli.main", "status", "--watch"],
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(3):
        assert watching.stdout.readline()
    # Between two looks no connection is open that would keep the driver from leaving one file.
    time.sleep(0.5)
    busy.close()
    assert {path.name for path in Path().iterdir()} == {"runs.db", "runs.db.lock"}
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=30)
    assert (watching.returncode, "Traceback" in rest) == (130, False)


def test_status_of_an_empty_database_says_so(database, call):
    shown = call("status")
    assert (shown.returncode, shown.stdout) == (0, "database runs.db holds no runs\n")
    assert call("status", "--watch").returncode == 0


def test_named_runs_are_cancelled_and_ended_ones_stay(busy, call):
    shown = call("cancel", "1", "2", "3")
    assert shown.returncode == 0
    assert "cancelled 1 pending, 1 running runs" in shown.stdout
    assert "run 1 has ended (done), and stays as it is" in shown.stdout
    assert states(busy) == ["done", "cancelled", "cancelled", "pending"]
    again = call("cancel", "2")
    assert (again.returncode, "run 2 was cancelled before" in again.stdout) == (0, True)
    assert "nothing to cancel" in again.stdout


def test_a_grid_or_everything_is_cancelled_while_a_driver_is_at_work(busy, call):
    assert "cancelled 1 pending, 1 running runs" in call("cancel", "--grid", "g").stdout
    assert states(busy) == ["done", "cancelled", "cancelled", "pending"]
    assert "cancelled 1 pending run;" in call("cancel", "--all").stdout
    assert not finish_run(busy, 2, "token", {"state": "done"}, [])


def test_stale_runs_are_cancelled(busy, call):
    busy.close()
    beside = open_beside(locate("runs.db"))
    with beside.session.begin() as session:
        find = session.get_one
        from npas_bench.database.schema import RunRow

        find(RunRow, 2).state = "stale"
    beside.close()
    assert "cancelled 1 stale run;" in call("cancel", "2").stdout


def test_on_a_terminal_a_grid_is_cancelled_after_a_question(busy, call, monkeypatch):
    asked = []
    answer = False

    def confirm(question):
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    refused = call("cancel", "--grid", "g")
    assert (refused.returncode, refused.stdout) == (1, "nothing was cancelled\n")
    assert asked == ["cancel 1 pending, 1 running runs of grid g?"]
    assert states(busy) == ["done", "running", "pending", "pending"]
    assert call("cancel", "--grid", "h", "--yes").returncode == 0
    answer = True
    assert call("cancel", "--all").returncode == 0
    assert len(asked) == 2
    assert states(busy) == ["done", "cancelled", "cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cancel",), "name what to cancel"),
        (("cancel", "1", "--all"), "name what to cancel"),
        (("cancel", "--grid", "g", "--all"), "name what to cancel"),
        (("cancel", "2", "17", "18"), "has no run 17, 18: its runs go up to 4. Nothing was cancelled"),
        (("cancel", "--grid", "gg"), "unknown grid 'gg'"),
        (("cancel", "--all", "--db", "no.db"), "no.db does not exist"),
        (("status", "--db", "no.db"), "no.db does not exist"),
        (("status", "--grid", "x"), "unknown grid 'x': known: g, h"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_changes_nothing(busy, call, arguments, message):
    result = call(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert states(busy) == ["done", "running", "pending", "pending"]
    assert not Path("no.db").exists()


def test_a_driver_stops_what_is_cancelled_and_the_same_command_goes_on_with_it(call, tmp_path):
    arguments = (
        *("run", "--task", "digits", "--method", "full", "--epochs", "400", "--seeds", "2", "--executor", "inline"),
        *("--db", tmp_path / "x.db"),
    )
    running = processes.start(arguments, tmp_path, tmp_path / "log", heartbeat=0.5)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.1)
            shown = call("status", "--json", "--db", "x.db")
            if shown.returncode == 0 and any(run["epoch"] for run in json.loads(shown.stdout)["under_way"]):
                break
        cancelled = call("cancel", "--all", "--db", "x.db")
        assert "cancelled 1 pending, 1 running runs" in cancelled.stdout, cancelled.stderr
        assert running.wait(timeout=60) == 1
    finally:
        running.kill()
    record = json.loads(call("status", "--json", "--db", "x.db").stdout)
    assert record["grids"][0]["counts"]["cancelled"] == 2
    assert list((tmp_path / "x.db.work").rglob("*"))


HOSTILE = "[bold]evil[/bold]\x1b[2J\x1b]0;title\x07\u202e\u009b"


def test_names_from_the_database_are_printed_and_not_obeyed(database, call, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    fields = {"task": HOSTILE, "architecture": HOSTILE, "method": HOSTILE, "options": {HOSTILE: HOSTILE}}
    fields |= {"budget_text": HOSTILE, "recipe_name": HOSTILE, "recipe": {"epochs": HOSTILE}}
    data = {"grid": HOSTILE, "data_label": HOSTILE, "device_class": HOSTILE, "device": HOSTILE}
    one, two = add_runs(
        database, [cell("a", **fields), cell("b", **fields)], [run("a", **data), run("b", **data, data_name=HOSTILE)]
    )
    driver = enter(database, CODE)
    with database.session.begin() as session:
        session.get_one(DriverRow, driver).host = HOSTILE
    claim_run(database, one, driver, "t", {})
    finish_run(database, one, "t", {"state": "failed", "message": HOSTILE}, [metric(1, HOSTILE, HOSTILE)])
    claim_run(database, two, driver, "t", {})
    for arguments in (
        ("leaderboard", "--source", "mine"),
        ("leaderboard", "--source", "mine", "--task", "evil"),
        ("status",),
        ("status", "--json"),
        ("status", "--grid", "evil"),
        ("show", "1"),
        ("cancel", "--grid", HOSTILE),
        ("status", "--watch"),
    ):
        shown = call(*arguments)
        said = shown.stdout + shown.stderr
        for sequence in ("\x1b[2J", "\x1b]0", "\x07", "\u202e", "\u009b"):
            assert sequence not in said, arguments
        assert "[bold]" in said or arguments[0] == "cancel", arguments
    leave(database, driver)
