"""Drivers, workers and Ray itself are killed again and again during a grid, and nothing is lost, doubled or changed."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from npas_bench.cli.main import main
from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import find_run, latest_runs
from npas_bench.errors import DatabaseError
from npas_bench.training.checkpoint import read_checkpoint
from tests import processes

KILLS = 20
EPOCHS = 8
CELLS = 9
GRID = """
tasks: [digits]
methods: [full, ssn, reduced]
budgets: [10%]
seeds: 3
"""
RUN = ("run", "--grid", "grid.yaml", "--epochs", str(EPOCHS), "--device", "cpu")
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find processes")


def marked(mark):
    """The processes that a run started, itself included: their number, parent and title."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"NPAS_TEST={mark}".encode() not in (path / "environ").read_bytes():
                continue
            title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            found[int(path.name)] = (int(parent), title)
    return found


def victims(kind, driver, mark):
    everything = marked(mark)
    if kind == "driver":
        return [driver]
    if kind == "raylet":
        return [pid for pid, (parent, title) in everything.items() if "raylet/raylet" in title and parent == driver]
    return [pid for pid, (_, title) in everything.items() if title.startswith("ray::Worker")]


def results(folder):
    database = open_for_reading(locate(str(folder / "runs.db")))
    if database is None:
        return []
    rows = [find_run(database, run) for run in sorted(latest_runs(database, 999))]
    database.close()
    return rows


def numbers(folder):
    return {
        row.identity: ({m.name: m.value for m in row.metrics}, [(e["epoch"], e["loss"]) for e in row.history])
        for row in results(folder)
        if row.state == "done"
    }


class Progress:
    """Whole epochs that checkpoints and finished cells vouch for, by cell.

    Only files that changed are read again: the test asks many times a second, beside the workers that it waits for.
    """

    def __init__(self, folder):
        self._folder = folder
        self._epochs = {}
        self._finished = (None, frozenset())

    def __call__(self):
        reached = {}
        for run in (self._folder / "runs.db.work").glob("*-cpu"):
            reached[run.name[:20]] = max(map(self._epoch, run.glob("*.pt")), default=0)
        return reached | dict.fromkeys(self._done(), EPOCHS)

    def _epoch(self, path):
        try:
            now = stamp(path)
        except OSError:  # an attempt that was superseded is removed
            return 0
        if self._epochs.get(path, (None,))[0] != now:
            checkpoint = read_checkpoint(path)
            self._epochs[path] = now, checkpoint.epoch if checkpoint else 0
        return self._epochs[path][1]

    def _done(self):
        # A driver that works on the database writes into its log, and merges the log into the file at times.
        now = [stamp(path) for name in ("runs.db", "runs.db-wal") if (path := self._folder / name).exists()]
        if now != self._finished[0]:
            try:
                self._finished = now, {row.identity[:20] for row in results(self._folder) if row.state == "done"}
            except DatabaseError:  # it is being made
                return frozenset()
        return self._finished[1]


def stamp(path):
    known = path.stat()
    return known.st_ino, known.st_mtime_ns, known.st_size


def gained(before, after):
    return any(epoch > before.get(cell, 0) for cell, epoch in after.items())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_grid_survives_twenty_kills_of_driver_worker_and_raylet(tmp_path, monkeypatch):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
        (folder / "grid.yaml").write_text(GRID, encoding="utf-8")
    with pytest.raises(SystemExit) as exit_, contextlib.chdir(undisturbed):
        main([*RUN, "--executor", "inline"])
    assert exit_.value.code == 0
    expected = numbers(undisturbed)
    assert len(expected) == CELLS

    mark = disturbed.parent.name
    monkeypatch.setenv("NPAS_TEST", mark)

    def start():
        return processes.start([*RUN, "--executor", "ray"], disturbed, disturbed / "log")

    draw = random.Random(0)  # noqa: S311
    # Ray has to start again after all but the kills of workers.
    kinds = [kind for _ in range(KILLS // 4) for kind in draw.sample(("driver", "worker", "worker", "raylet"), 4)]
    progress = Progress(disturbed)
    driver, killed, before = start(), [], {}
    while len(killed) < KILLS:
        wait_for_progress(driver, progress, before, disturbed / "log")
        kind = kinds[len(killed)]
        chosen = victims(kind, driver.pid, mark)
        if not chosen:
            time.sleep(0.1)
            continue
        workers = victims("worker", driver, mark)
        with contextlib.suppress(ProcessLookupError):
            os.kill(draw.choice(chosen), signal.SIGKILL)
            killed.append(kind)
        if kind == "driver":
            driver.wait()
            driver = start()
        if kind != "worker":
            # Workers whose Ray is gone go on for a moment, to no purpose: what they still save is no progress.
            wait_for_end(workers, mark)
        before = progress()
    assert driver.wait(300) == 0, (disturbed / "log").read_text()[-3000:]

    assert {kind: killed.count(kind) for kind in ("driver", "worker", "raylet")} == {
        kind: kinds.count(kind) for kind in ("driver", "worker", "raylet")
    }
    rows = results(disturbed)
    assert len(rows) == CELLS
    assert {row.state for row in rows} == {"done"}
    assert numbers(disturbed) == expected
    assert max(row.attempt for row in rows) > 1


def wait_for_end(workers, mark):
    """Until none of these processes is left, which end by themselves when they notice that their Ray is gone."""
    end = time.monotonic() + 60
    while set(workers) & marked(mark).keys():
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_for_progress(driver, progress, before, log):
    """Until at least one epoch has been gained somewhere since `before`."""
    end = time.monotonic() + 120
    while not gained(before, progress()):
        assert driver.poll() is None, "the grid ended before the last kill:\n" + log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)
