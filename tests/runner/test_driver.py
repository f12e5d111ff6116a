"""What a driver does about cells that other drivers have."""

import threading

from rich.console import Console

from npas_bench import __version__
from npas_bench.cells.grid import Expander, read_grid
from npas_bench.cli.terminal.progress import PlainReporter
from npas_bench.database.drivers import CodeVersion, enter, leave
from npas_bench.database.opening import locate, open_beside, open_for_writing
from npas_bench.database.runs import claim_run, finish_run, newest_runs
from npas_bench.runner.driver import run_planned
from npas_bench.runner.executors import Executor
from npas_bench.runner.planned import PlannedCell
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.work import Measured, Outcome

DONE = Outcome(state="done", metrics=[Measured(name="error@1", unit="%", higher_is_better=False, value=1.0)])
METRICS = [{"name": "error@1", "unit": "%", "higher_is_better": False, "value": 1.0}]


class AmongOthers(Executor):
    """Runs what it is given, while other drivers are at work on the same cells.

    When it begins, others have three of the cells: the first is finished at once, the second a moment later, and the
    third is left behind.
    """

    def __init__(self, database, planned):
        self.database, self.planned, self.given, self.later = database, planned, [], None

    def run(self, works, listener):
        self.given.append([work.cell.seed for work in works])
        first = self.later is None
        if first:
            live, dying = (enter(self.database, CodeVersion(__version__, source_digest())) for _ in range(2))
            runs = [newest_runs(self.database, [one.key])[one.key].id for one in self.planned]
            for run, driver in zip(runs[:3], (live, live, dying), strict=True):
                assert claim_run(self.database, run, driver, f"theirs {run}", {})
            self.finish(runs[0])
            self.later = threading.Timer(1.5, self.finish, [runs[1]])
            self.later.start()
        for work in works:
            begun = listener.started(work)
            if begun is not None:
                listener.finished(begun, DONE)
        if first:
            leave(self.database, dying)

    def finish(self, run):
        assert finish_run(self.database, run, f"theirs {run}", {"state": "done"}, METRICS)


def test_cells_that_others_finish_or_leave_behind_are_all_accounted_for():
    expander = Expander()
    cells = [cell for cell in expander.cells(read_grid("lowbudget")) if cell.method == "reduced"][:4]
    source = expander.task("digits").source()
    planned = [PlannedCell(cell, 77_562, source, "cpu") for cell in cells]
    open_for_writing(locate("runs.db")).close()
    # As on a server, where a driver is not the only one.
    database = open_beside(locate("runs.db"))
    executor = AmongOthers(database, planned)
    summary = run_planned(planned, database, executor, PlainReporter(Console(quiet=True)))
    executor.later.join()
    assert summary == (4, 0, 0)
    # First all; then what the dead one left behind, while the other is still at work on its own.
    assert [len(given) for given in executor.given] == [4, 1]
    assert {run.state for run in newest_runs(database, [one.key for one in planned]).values()} == {"done"}
    database.close()
