"""Seconds and memory of a grid of 100,000 cells, from its file to what is left to run.

python benchmarks/scale_grid.py [--seeds 2500] [--part expansion|forecast|plan]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from npas_bench.cli.selection import Selection, planned_cells
from npas_bench.cli.terminal.progress import PlainReporter
from npas_bench.database.opening import locate, open_for_writing
from npas_bench.database.runs import newest_runs
from npas_bench.forecast.forecast import Forecast
from npas_bench.forecast.outlook import lanes_here, look_out
from npas_bench.runner.driver import run_planned
from npas_bench.runner.executors import Executor
from npas_bench.runner.planned import left_over

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from npas_bench.database.opening import Database
    from npas_bench.runner.executors import Listener
    from npas_bench.runner.planned import PlannedCell
    from npas_bench.runner.work import Work

# Eight methods, five budgets: 40 cells a seed.
GRID = """
about: Eight methods at five budgets
tasks: [digits]
methods:
  - reduced
  - hashednets
  - hypernetwork
  - ssn
  - {{name: ssn, options: {{upsample: inter}}}}
  - {{name: ssn, options: {{upsample: repeat}}}}
  - {{name: ssn, options: {{templates: 4}}}}
  - superweights
budgets: [5%, 10%, 15%, 25%, 50%]
seeds: {seeds}
"""
console = Console()


class Timer:
    """Measures steps one after the other, and shows them."""

    def __init__(self) -> None:
        self._table = Table("Step", "Seconds", "Memory, MiB", title="A grid at scale")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens in the block, and the largest resident set meanwhile."""
        peak, stop = [_resident()], threading.Event()

        def watch() -> None:
            while not stop.wait(0.02):
                peak[0] = max(peak[0], _resident())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        begun = time.perf_counter()
        yield
        seconds = time.perf_counter() - begun
        stop.set()
        thread.join()
        self._table.add_row(name, f"{seconds:.2f}", f"{max(peak[0], _resident()):.0f}")

    def show(self) -> None:
        """Print the table."""
        console.print(self._table)


def expansion(path: Path, timer: Timer) -> list[PlannedCell]:
    """The file's cells with their identities, and what a database that knows them all says is left."""
    selection = Selection(str(path), *[None] * 11, short=False, device="cpu")
    with timer.step("import, and a first cell"):
        one = selection._replace(grid=None, tasks=["digits"], methods=["full"], seed_list=[0])
        planned_cells(one)
    with timer.step("expansion, with identities"):
        planned = planned_cells(selection)
        identities = {one.cell.identity for one in planned}
    with timer.step("keys of runs"):
        keys = [one.key for one in planned]
    console.print(f"{len(planned):,} cells, {len(identities):,} identities")
    database = open_for_writing(locate(str(path.with_suffix(".db"))))
    with timer.step("left over, of an empty database"):
        left = left_over(planned, newest_runs(database, keys), None)
    console.print(f"{len(left):,} of them are left to run")
    with timer.step("driver, up to the first cell"):
        _drive(database, planned)
    with timer.step("left over, of a full database"):
        left_over(planned, newest_runs(database, keys), None)
    database.close()
    return planned


def forecast(planned: list[PlannedCell], timer: Timer) -> None:
    """What all cells will take, from nothing but their operations."""
    with timer.step("forecast learned, of no runs"):
        learned = Forecast.learn((), "cpu")
    with timer.step("forecasts"):
        estimates = learned.all(planned)
    with timer.step("finishing time"):
        look_out(planned, estimates, lanes_here("cpu"))


def plan(path: Path, timer: Timer) -> None:
    """`npas-bench plan`, whole."""
    command = [sys.executable, "-m", "npas_bench.cli.main", "plan", "--grid", str(path), "--device", "cpu"]
    with timer.step("npas-bench plan"):
        shown = subprocess.run(  # noqa: S603 (fixed arguments)
            [*command, "--db", str(path.with_suffix(".db"))], check=True, capture_output=True, text=True
        )
    console.print(shown.stdout, markup=False, highlight=False)


class _Enough(Exception):
    """The driver is ready."""


class _Ready(Executor):
    """Runs nothing: what comes before is what is measured."""

    def run(self, works: Sequence[Work], listener: Listener) -> None:
        raise _Enough


def _drive(database: Database, planned: list[PlannedCell]) -> None:
    with suppress(_Enough):
        run_planned(planned, database, _Ready(), PlainReporter(Console(stderr=True)))


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2500, help="40 cells each")
    parser.add_argument("--part", choices=("expansion", "forecast", "plan"), default="expansion", help="and before")
    arguments = parser.parse_args()
    timer = Timer()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.yaml"
        path.write_text(GRID.format(seeds=arguments.seeds), encoding="utf-8")
        planned = expansion(path, timer)
        if arguments.part != "expansion":
            forecast(planned, timer)
        if arguments.part == "plan":
            plan(path, timer)
    timer.show()


if __name__ == "__main__":
    main()
