"""What running a grid on Ray costs over its trainings: 40 cells of a few seconds, one thread each.

python benchmarks/runner_efficiency.py [--cells 40] [--epochs 20] [--json FILE]

The ideal is the sum of the cells' own training seconds over the number of cores. Start-up is everything before the
first cell begins: the command's imports, Ray's processes, the workers' imports.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import console, environment, report

from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import find_run, latest_runs

_GRID = """
tasks: [digits]
architectures: [wrn-10-1]
methods: [full, ssn]
budgets: [10%]
seeds: {seeds}
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder) / "grid.yaml"
        grid.write_text(_GRID.format(seeds=given.cells // 2), encoding="utf-8")
        command = [sys.executable, "-m", "npas_bench.cli.main", "run", "--grid", grid.name, "--executor", "ray"]
        begun = time.time()
        subprocess.run([*command, "--epochs", str(given.epochs), "--device", "cpu"], cwd=folder, check=True)  # noqa: S603
        ended = time.time()
        database = open_for_reading(locate(str(Path(folder) / "runs.db")))
        assert database is not None  # noqa: S101
        rows = [find_run(database, run) for run in latest_runs(database, given.cells)]
        database.close()
    done = [row for row in rows if row is not None and row.state == "done" and row.started and row.train_seconds]
    if len(done) != given.cells // 2 * 2:
        raise SystemExit(f"only {len(done)} cells are done")
    training = sum(row.train_seconds or 0 for row in done)
    first = min(row.started.timestamp() for row in done if row.started)
    last = max(row.finished.timestamp() for row in done if row.finished)
    ideal = training / cores
    whole, inner = (ended - begun) / ideal, (last - first) / ideal
    record = {
        **environment(torch.device("cpu"), cores=cores),
        "cells": len(done),
        "seconds_per_cell": training / len(done),
        "startup": first - begun,
        "ratio": inner,
        "ratio_with_startup": whole,
    }
    row = [
        str(len(done)),
        f"{training / len(done):.2f} s",
        f"{first - begun:.1f} s",
        f"{inner:.3f} {'≤' if inner <= 1.15 else '>'} 1.15",
        f"{whole:.3f} {'≤' if whole <= 1.3 else '>'} 1.3",
    ]
    headings = ("cells", "training of one", "start-up", "time, start-up left out", "with it")
    report("A grid on Ray, ratio to its trainings", headings, [row], record, given.json)
    console.print(f"{cores} cores; ended {ended - begun:.1f} s after it began")


if __name__ == "__main__":
    main()
