"""Runs survive SIGKILL of anything, and give the same numbers in every executor."""

import contextlib
import os
import signal
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from npas_bench.cli.main import main
from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import find_run, latest_runs
from npas_bench.errors import DatabaseError
from npas_bench.training.checkpoint import read_checkpoint
from npas_bench.training.stages import fit
from npas_bench.weights_file import measure_file
from tests import processes

EPOCHS = 6
CELLS = ("run", "--task", "digits", "--method", "full", "--method", "ssn", "--budget", "10%", "--seed", "0")
COMMAND = [*CELLS, "--epochs", str(EPOCHS)]


def start(folder, executor="inline", *more):
    return processes.start([*COMMAND, "--executor", executor, *more], folder, folder / "log")


def finish(folder, executor="inline", *more, expected=0):
    """The same command to its end, inline in this process, where torch is imported already."""
    if executor == "inline":
        with pytest.raises(SystemExit) as exit_, contextlib.chdir(folder):
            main([*COMMAND, "--executor", executor, *more])
        assert exit_.value.code == expected
    else:
        assert start(folder, executor, *more).wait(120) == 0


def runs(folder):
    database = open_for_reading(locate(str(folder / "runs.db")))
    if database is None:
        return []
    found = [find_run(database, run) for run in sorted(latest_runs(database, 99))]
    database.close()
    return found


def numbers(folder):
    """Everything of each cell that must be the same bit for bit."""
    return {
        row.cell.method: (
            row.state,
            {metric.name: metric.value for metric in row.metrics},
            [(entry["epoch"], entry["loss"]) for entry in row.history],
        )
        for row in runs(folder)
        if row.current
    }


def epochs_trained(folder):
    """Whole epochs that checkpoints and finished cells vouch for."""
    total = 0
    for run in (folder / "runs.db.work").glob("*"):
        found = [read_checkpoint(path) for path in run.glob("*.pt")]
        total += max((checkpoint.epoch for checkpoint in found if checkpoint), default=0)
    try:
        finished = sum(row.state == "done" for row in runs(folder))
    except DatabaseError:  # the database is being made
        finished = 0
    return total + EPOCHS * finished


def wait_until(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before the moment to kill it"
        assert time.monotonic() < end
        time.sleep(0.02)


def killed_at(moment, parent):
    """The folder of a run that was killed after some of the two cells' twelve epochs, a little into the next one.

    On a busy machine the run may be over before it is killed: then another one is.
    """
    for attempt in range(5):
        folder = parent / str(attempt)
        folder.mkdir()
        process = start(folder)
        while epochs_trained(folder) < moment and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.005 * moment)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return folder
    pytest.fail(f"five runs ended before they were killed after epoch {moment}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder)
    return numbers(folder)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 11))
def test_a_run_killed_at_any_moment_goes_on_to_the_same_numbers(moment, undisturbed, tmp_path):
    folder = killed_at(moment, tmp_path)
    finish(folder)
    assert numbers(folder) == undisturbed
    rows = runs(folder)
    assert [row.state for row in rows] == ["done", "done"]
    assert sum(row.attempt for row in rows) in (2, 3)


@pytest.mark.slow
def test_ctrl_c_stops_with_a_word_and_the_same_command_goes_on(undisturbed, tmp_path):
    process = start(tmp_path)
    wait_until(lambda: epochs_trained(tmp_path) >= 2, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    log = (tmp_path / "log").read_text()
    assert "the same command goes on from here" in log
    assert "Traceback" not in log
    assert [row.state for row in runs(tmp_path)] == ["pending", "pending"]
    finish(tmp_path)
    assert numbers(tmp_path) == undisturbed


def test_checkpoints_of_cells_that_are_left_out_stay(tmp_path):
    process = start(tmp_path)
    wait_until(lambda: epochs_trained(tmp_path) >= 2, process)
    process.kill()
    process.wait()
    before = sorted((tmp_path / "runs.db.work").rglob("*.pt"))
    finish(tmp_path, "inline", "--only", "failed", expected=1)
    assert before == sorted((tmp_path / "runs.db.work").rglob("*.pt")) != []


@pytest.mark.parametrize("point", ["before the result is stored", "before the checkpoints are removed"])
def test_a_driver_that_dies_around_storing_a_result_neither_loses_nor_doubles_it(
    point, undisturbed, tmp_path, monkeypatch
):
    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    with monkeypatch.context() as patch, contextlib.chdir(tmp_path), pytest.raises(Died):
        target = "finish_run" if "stored" in point else "remove_checkpoints"
        patch.setattr(f"npas_bench.runner.recorder.{target}", die)
        patch.setattr("npas_bench.runner.driver.leave", lambda *_: None)
        main([*CELLS, "--epochs", str(EPOCHS), "--executor", "inline"])
    assert [row.state for row in runs(tmp_path)] == ["running" if "stored" in point else "done", "pending"]
    finish(tmp_path)
    assert numbers(tmp_path) == undisturbed
    assert checkpoint_folders(tmp_path) == []


def checkpoint_folders(folder):
    return [path.name for path in (folder / "runs.db.work").iterdir() if path.name != "logs"]


def test_a_full_disk_fails_the_cell_with_a_message_and_loses_no_epoch(undisturbed, tmp_path, monkeypatch, capsys):
    saved = []

    def write(descriptor):
        saved.append(descriptor)
        if len(saved) > 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, contextlib.chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        patch.setattr("npas_bench.training.checkpoint.os.fsync", write)
        main([*CELLS, "--epochs", str(EPOCHS), "--executor", "inline"])
    assert exit_.value.code == 1
    assert "No space left on device" in capsys.readouterr().out
    assert [row.state for row in runs(tmp_path)] == ["failed", "failed"]
    assert epochs_trained(tmp_path) == 3
    assert trained_anew(tmp_path) == 2 * EPOCHS - 3
    assert numbers(tmp_path) == undisturbed


def trained_anew(folder, command=None):
    """How many epochs a command trains to its end; left out, the command that all of these tests run."""
    trained, train_epoch = [], fit.train_epoch

    def counted(*arguments, **named):
        trained.append(1)
        return train_epoch(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_epoch", counted)
        if command is None:
            finish(folder)
        else:
            with pytest.raises(SystemExit) as exit_, contextlib.chdir(folder):
                main(command)
            assert exit_.value.code == 0
    return len(trained)


def test_a_database_on_a_full_disk_ends_the_run_with_a_message_and_loses_nothing(
    undisturbed, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OperationalError("UPDATE runs", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch, contextlib.chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        patch.setattr("npas_bench.runner.recorder.finish_run", full)
        main([*CELLS, "--epochs", str(EPOCHS), "--executor", "inline"])
    assert exit_.value.code == 2
    assert "database or disk is full. What was finished is stored; the same command goes on" in capsys.readouterr().err
    assert epochs_trained(tmp_path) == EPOCHS
    finish(tmp_path)
    assert numbers(tmp_path) == undisturbed


def test_a_clock_that_is_set_back_changes_nothing(undisturbed, tmp_path, monkeypatch):
    process = start(tmp_path)
    wait_until(lambda: epochs_trained(tmp_path) >= 2, process)
    process.kill()
    process.wait()
    with monkeypatch.context() as patch:
        earlier = datetime(2001, 1, 1, tzinfo=UTC)
        patch.setattr("npas_bench.database.runs.now", lambda: earlier)
        patch.setattr("npas_bench.database.drivers.clock", lambda _: earlier)
        finish(tmp_path)
    assert numbers(tmp_path) == undisturbed


def test_a_deadline_fails_the_cell_which_goes_on_in_the_next_run(undisturbed, tmp_path):
    finish(tmp_path, "inline", "--deadline", "0.01s", expected=1)
    assert {row.message for row in runs(tmp_path)} == {f"its deadline of 0.01 s passed after epoch 1 of {EPOCHS}"}
    assert trained_anew(tmp_path) == 2 * (EPOCHS - 1)
    assert numbers(tmp_path) == undisturbed


def test_a_cancelled_cell_is_stopped_and_goes_on_when_it_is_run_again(undisturbed, tmp_path, monkeypatch):
    from npas_bench.database.opening import open_beside
    from npas_bench.database.runs import cancel_runs
    from npas_bench.runner.recorder import Recorder

    def cancel(recorder, attempt, report):
        database = open_beside(locate("runs.db"))
        assert cancel_runs(database, runs=[recorder.runs[attempt.cell.identity]]) == 1
        database.close()
        recorder.look()

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "progressed", cancel)
        finish(tmp_path, expected=1)
    assert [row.state for row in runs(tmp_path)] == ["cancelled", "cancelled"]
    assert epochs_trained(tmp_path) == 2
    assert trained_anew(tmp_path) == 2 * (EPOCHS - 1)
    assert numbers(tmp_path) == undisturbed


def test_an_interrupted_repetition_goes_on_from_its_own_last_epoch(undisturbed, tmp_path, monkeypatch):
    from npas_bench.runner.recorder import Recorder

    def interrupt(recorder, work, report):
        if report.epoch == 3:
            raise KeyboardInterrupt

    finish(tmp_path)
    with monkeypatch.context() as patch, contextlib.chdir(tmp_path), pytest.raises(SystemExit) as exit_:
        patch.setattr(Recorder, "progressed", interrupt)
        main(["reproduce", "1"])
    assert exit_.value.code == 130
    first, *_, repetition = runs(tmp_path)
    assert (repetition.state, repetition.repeats) == ("pending", first.uid)
    assert trained_anew(tmp_path, ["reproduce", "1"]) == EPOCHS - 3
    assert [(row.state, row.attempt) for row in runs(tmp_path)] == [("done", 1), ("done", 1), ("done", 2)]
    assert numbers(tmp_path) == undisturbed
    again = runs(tmp_path)[-1]
    assert [metric.value for metric in again.metrics] == [metric.value for metric in first.metrics]


def ray_workers(parent):
    """Workers computing a cell for this driver, as Ray titles their processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title = (path / "cmdline").read_bytes()
            mine = f"NPAS_TEST={parent}".encode() in (path / "environ").read_bytes()
        except OSError:
            continue
        if mine and title.startswith(b"ray::Worker"):
            found.append(int(path.name))
    return found


def left_of(mark):
    """The processes that a run started, as far as they are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"NPAS_TEST={mark}".encode() in (path / "environ").read_bytes()
            gone = (path / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if mine and not gone:
            found.append((path / "cmdline").read_bytes())
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find Ray's processes")
def test_a_signal_stops_a_run_on_ray_and_leaves_none_of_its_processes(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_TEST", tmp_path.name)
    process = start(tmp_path, "ray")
    wait_until(lambda: ray_workers(tmp_path.name), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    log = (tmp_path / "log").read_text()
    assert "the same command goes on from here" in log
    assert "Traceback" not in log
    assert {row.state for row in runs(tmp_path)} == {"pending"}
    until = time.monotonic() + 30
    while left_of(tmp_path.name) and time.monotonic() < until:
        time.sleep(0.1)
    assert left_of(tmp_path.name) == []
    finish(tmp_path)
    assert numbers(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find Ray's workers")
def test_ray_gives_the_same_numbers_and_survives_a_killed_worker_and_driver(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_TEST", tmp_path.name)
    process = start(tmp_path, "ray", "--keep-weights")
    wait_until(lambda: epochs_trained(tmp_path) >= 1 and ray_workers(tmp_path.name), process)
    os.kill(ray_workers(tmp_path.name)[0], signal.SIGKILL)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finish(tmp_path, "ray", "--keep-weights")
    assert numbers(tmp_path) == undisturbed
    assert [row.state for row in runs(tmp_path)] == ["done", "done"]
    kept = {path.name: measure_file(path) for path in (tmp_path / "runs.db.weights").iterdir()}
    assert kept == {file.file: (file.sha256, file.bytes) for row in runs(tmp_path) for file in row.weights}
    assert len(kept) == 2
