"""`leaderboard` in its formats, `compare` and `dashboard` on the command line."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from npas_bench import plugins
from tests.boards import Made, published_version
from tests.dashboard.conftest import fill


@pytest.fixture
def filled():
    return fill(Path("runs.db"))


def test_formats_hold_the_same_numbers(filled, call):
    forms = ("json", "csv", "markdown", "latex", "table")
    shown = {form: call("leaderboard", "--task", "cifar100", "--format", form) for form in forms}
    assert {one.returncode for one in shown.values()} == {0}
    (board,) = (b for b in json.loads(shown["json"].stdout)["boards"] if b["tables"])
    means = [one["mean"] for band in board["tables"][0]["budgets"] for one in band["standings"]]
    assert [float(row["mean"]) for row in csv.DictReader(io.StringIO(shown["csv"].stdout))] == means
    for form in ("markdown", "latex", "table"):
        assert all(f"{mean:.2f}" in shown[form].stdout for mean in means), form
    assert max(map(len, shown["table"].stdout.splitlines())) <= 80


def test_a_band_of_budgets_and_a_method_choose_rows(filled, call):
    chosen = ("--source", "mine", "--task", "digits", "--format", "json")
    whole = json.loads(call("leaderboard", *chosen).stdout)["boards"][0]["tables"]
    part = json.loads(
        call("leaderboard", *chosen, "--from-budget", "5%", "--to-budget", "20k", "--method", "RED").stdout
    )["boards"][0]["tables"]
    rows = [(t["data"], b["text"], s["label"], s["rank"]) for t in part for b in t["budgets"] for s in b["standings"]]
    assert rows[-1] == ("digits", "10%", "reduced", 3)
    assert rows[-1] in [
        (t["data"], b["text"], s["label"], s["rank"]) for t in whole for b in t["budgets"] for s in b["standings"]
    ]


def test_a_search_and_a_band_hide_rows_and_change_no_score(filled, call):
    def scores(*arguments):
        shown = call("leaderboard", "--source", "mine", "--task", "digits", "--format", "json", *arguments)
        tables = json.loads(shown.stdout)["boards"][0]["tables"]
        table = next(t for t in tables if t["data_official"] and t["device"] == "cpu")
        return {score["label"]: score for score in table["frontier"]["scores"]}, table["frontier"]["target"]

    whole, target = scores()
    assert scores("--to-budget", "10%") == ({n: s for n, s in whole.items() if n != "full"}, target)
    part, same = scores("--method", "hashed")
    assert (part, same) == ({"hashednets": whole["hashednets"]}, target)


def test_tables_without_a_metric_are_left_out_and_counted(filled, call):
    shown = call("leaderboard", "--source", "mine", "--metric", "nll").stdout
    assert "cifar100 · wrn-28-10" in shown
    assert "digits" not in shown.split("tables of mine hold no nll")[0].replace("3 tables", "")
    assert "3 tables of mine hold no nll" in shown


def test_what_was_run_again_is_marked(filled, call):
    tables = json.loads(call("leaderboard", "--source", "mine", "--format", "json").stdout)["boards"][0]["tables"]
    digits = [table for table in tables if table["task"] == "digits"]
    marked = {(t["device"], s["label"]): s["badges"] for t in digits for b in t["budgets"] for s in b["standings"]}
    assert marked["cpu", "superweights"] == ["not all seeds", "reproduced"]
    assert marked["cuda", "superweights"] == ["reproduced"]
    assert marked["cpu", "reduced"] == []


def test_a_cell_of_the_published_board_that_is_run_again_is_a_reproduction(call):
    assert call("run", "--task", "digits", "--method", "full", "--seeds", "1", "--executor", "inline").returncode == 0
    chosen = ("--architecture", "wrn-10-1", "--method", "full", "--format", "json")
    boards = json.loads(call("leaderboard", *chosen).stdout)["boards"]
    own, published = (board["tables"][0]["budgets"][0]["standings"][0] for board in boards)
    # A published result of an older version of the task is one of another cell.
    marks = ["reproduced"] if published_version(183) == plugins.tasks.load("digits").version else []
    assert (own["badges"], published["badges"]) == (marks, marks)


def test_methods_are_compared_in_words(filled, call):
    shown = call("compare", "hashednets", "reduced", "--source", "mine")
    text = " ".join(shown.stdout.split())
    assert shown.returncode == 0
    assert "Over 3 shared comparisons, hashednets and reduced cannot be told apart in any." in text
    assert "One more budget takes no part: at least one of the methods has no result there." in text
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_results_are_compared_with_the_papers(filled, call):
    shown = call("compare", "--grid", "superweights-table1", "--source", "mine")
    text = shown.stdout
    assert shown.returncode == 0
    assert "Teterwak et al. 2023, Table 1 · cifar100 · wrn-28-10 · accuracy@1" in text
    assert "77.60 ± 0.25" in text  # superweights: an error of 22.4
    assert "2 measured results beside them, 0 of 2 within the printed spread" in text
    assert "not run" in text
    assert max(map(len, text.splitlines())) <= 80
    alone = call("compare", "--source", "mine").stdout
    assert "not run" not in alone
    assert "77.60" in alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderboard", "--from-budget", "much"), "budget 'much' is not a positive amount"),
        (("leaderboard", "--format", "xml"), "'xml' is not one of"),
        (("leaderboard", "--task", "digts"), "did you mean digits?"),
        (("compare", "ssn"), "name two methods"),
        (("compare", "ssn", "redcued"), "unknown method 'redcued': did you mean reduced?"),
        (("compare", "ssn", "reduced", "--grid", "lowbudget"), "leave them out"),
        (("compare", "--grid", "lowbudget"), "names no papers' tables"),
        (("compare", "--table", "plummer2022npas Tabel 5"), "did you mean plummer2022npas Table 5"),
        (("compare", "--grid", "mapping-table7", "--task", "cifar11"), "did you mean cifar10"),
        (("compare", "--db", "no.db", "--source", "mine"), "database no.db does not exist: name one that does"),
        (("dashboard", "--port", "0"), "greater than or equal to 1"),
        (("dashboard", "--address", "no.such.host.invalid"), "cannot listen on no.such.host.invalid"),
        (("dashboard", "--db", "mysql://x/y"), "is not supported"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(filled, call, arguments, message):
    result = call(*arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_port_that_is_taken_is_said(command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = command("dashboard", "--port", port)
    assert (result.returncode, f"port {port} is taken" in result.stderr) == (2, True)


def test_the_dashboard_listens_to_this_machine_alone_and_ends_at_ctrl_c(tmp_path):
    with Made(tmp_path / "runs.db") as made:
        made.add()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "npas_bench.cli.main", "dashboard", "--port", str(port), "--db", "runs.db"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health") as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() < end
                assert process.poll() is None
                time.sleep(0.2)
        listening = Path("/proc/net/tcp").read_text(encoding="ascii")
        assert f"0100007F:{port:04X} 00000000:0000 0A" in listening
        assert f"00000000:{port:04X} 00000000:0000 0A" not in listening
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert "Traceback" not in output
    assert f"http://127.0.0.1:{port}" in output
    # Read-only: nothing was written beside the database.
    assert {path.name for path in tmp_path.iterdir()} == {"runs.db", "runs.db.lock"}
    assert os.environ.get("NPAS_BENCH_DB") is None
