"""Recording in the database what becomes of cells: claims, attempts and outcomes."""

from __future__ import annotations

import secrets
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from npas_bench.database.patience import patiently
from npas_bench.database.runs import Findings, claim_run, finish_run, note_attempt, still_running, uids_of
from npas_bench.database.states import RunState
from npas_bench.errors import StorageError
from npas_bench.runner.device import describe_device, device_class
from npas_bench.runner.executors import Listener
from npas_bench.runner.provenance import code
from npas_bench.runner.work import Attempt, Keep, Outcome, remove_unlisted
from npas_bench.training.checkpoint import hand_over, remove_checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from npas_bench.cells.cell import Cell
    from npas_bench.database.opening import Database
    from npas_bench.runner.executors import Ended
    from npas_bench.runner.progress import Reporter
    from npas_bench.runner.work import Work
    from npas_bench.tasks import DataVersion, Measured
    from npas_bench.training.loop import EpochReport

# These parts of an outcome are not columns of the run.
_STORED_ELSEWHERE = {"metrics", "evaluations", "subjects", "weights", "resumable", "cause"}


@lru_cache
def device_name(device: str) -> str:
    """The device's own name, for which the system is asked once."""
    return describe_device(device)


def run_folder(root: Path, identity: str, source: DataVersion, device: str, repeats: str | None = None) -> Path:
    """The folder of a run's checkpoints; a repetition shares none with the run that it repeats."""
    again = f"-again-{repeats[:12]}" if repeats else ""
    return root / f"{identity[:20]}-{source.digest[:8]}-{device_class(device)}{again}"


def _evaluation_fields(measured: Measured) -> dict[str, Any]:
    """The columns of an evaluation, in which the metric's name is called `metric`."""
    fields = measured.model_dump()
    return {"metric": fields.pop("name"), **fields}


class Recorder(Listener):
    """Passes what an executor tells about cells on to the database and to the display.

    Args:
        database: open for writing.
        driver: this driver's id.
        reporter: shows progress.
        root: folder that the folders of runs' checkpoints lie in.
        runs: the run of each cell, by the cell's identity.

    Attributes:
        driver: this driver's id.
        runs: the run of each cell, by the cell's identity.
        states: the states in which cells ended.
        settled: identities of the cells that this driver need not look after any more.
    """

    def __init__(
        self, database: Database, driver: str, reporter: Reporter, root: Path, runs: Mapping[str, int]
    ) -> None:
        self._database = database
        self._reporter = reporter
        self._root = root
        self.runs = runs
        self._code = code()
        self._guard = threading.Lock()
        self._running: dict[str, tuple[int, str]] = {}
        self._epochs: dict[int, int] = {}
        self._lost: set[str] = set()
        self.driver = driver
        self.states: list[RunState] = []
        self.settled: set[str] = set()

    @override
    def started(self, work: Work) -> Attempt | None:
        """Claim the run, and hand the last checkpoint of the attempt before to the new one."""
        identity = work.cell.identity
        token = secrets.token_hex(8)
        # A run that goes on tells of the code and the device that bring it to its end.
        facts = {
            **self._code._asdict(),
            "plugins": [code._asdict() for code in work.plugins] or None,
            "device": device_name(work.device),
        }
        run = self.runs[identity]
        claim = patiently(claim_run, self._database, run, self.driver, token, facts)
        if claim is None:
            return None
        folder = run_folder(self._root, identity, work.source, work.device, work.repeats)
        with self._guard:
            self._running[identity] = (run, token)
            self._lost.discard(identity)
        self._reporter.started(work.cell)
        attempt = Attempt(work, token, folder, self._keep(work, run))
        try:
            hand_over(folder, claim.superseded, token)
        except StorageError as error:
            self.finished(attempt, Outcome(state=RunState.FAILED, message=str(error), resumable=True, cause="storage"))
            return None
        return attempt

    def _keep(self, work: Work, run: int) -> Keep | None:
        if work.keep is None:
            return None
        return Keep(work.keep, patiently(uids_of, self._database, [run])[run])

    @override
    def progressed(self, attempt: Attempt, report: EpochReport) -> None:
        """Show the epoch, and let the next heartbeat tell the database."""
        with self._guard:
            self._epochs[self.runs[attempt.cell.identity]] = report.epoch
        self._reporter.progressed(attempt.cell, report)

    @override
    def retried(self, attempt: Attempt, ended: Ended) -> None:
        """Store with the run how the attempt ended."""
        patiently(note_attempt, self._database, self.runs[attempt.cell.identity], ended.as_json())

    @override
    def finished(self, attempt: Attempt, outcome: Outcome) -> None:
        """Store the outcome, unless the attempt was superseded or cancelled."""
        identity, run = attempt.cell.identity, self.runs[attempt.cell.identity]
        fields = outcome.model_dump(mode="json", exclude=_STORED_ELSEWHERE)
        if not outcome.device:
            del fields["device"]
        fields["parameters"] = outcome.ledger.total if outcome.ledger else None
        for name in ("seconds_per_step", "train_seconds", "peak_memory"):
            fields[name] = getattr(outcome.cost, name) if outcome.cost else None
        metrics = [metric.model_dump(exclude={"subject", "split"}) for metric in outcome.metrics]
        findings = Findings(
            evaluations=[_evaluation_fields(one) for one in outcome.evaluations],
            subjects=[subject.model_dump() for subject in outcome.subjects],
            weights=[file.model_dump() for file in outcome.weights],
        )
        stored = patiently(finish_run, self._database, run, attempt.token, fields, metrics, findings)
        self._forget(identity)
        if attempt.keep is not None:
            remove_unlisted(attempt.keep, outcome.weights, stored=stored)
        if stored:
            # Not earlier: if this driver died before the result is stored, the next one would need the checkpoints.
            if not outcome.resumable:
                remove_checkpoints(attempt.folder)
            self.states.append(outcome.state)
            self.settled.add(identity)
            self._reporter.finished(attempt.cell, outcome, run)
        else:
            self._reporter.dropped(attempt.cell)

    @override
    def dropped(self, attempt: Attempt) -> None:
        """Forget the attempt."""
        self._forget(attempt.cell.identity)
        self._reporter.dropped(attempt.cell)

    @override
    def unwanted(self) -> set[str]:
        """The unwanted cells that the last look at the database found."""
        with self._guard:
            return set(self._lost)

    def settle(self, cell: Cell, state: RunState) -> None:
        """Take note that a cell that another driver had is over."""
        self._forget(cell.identity)
        self.settled.add(cell.identity)
        if state.ended:
            self.states.append(state)
        self._reporter.settled(cell, state)

    def epochs(self) -> dict[int, int]:
        """The epochs that runs have reached since the last call."""
        with self._guard:
            epochs, self._epochs = self._epochs, {}
        return epochs

    def look(self) -> None:
        """Look in the database which running cells were cancelled or taken by another driver."""
        with self._guard:
            running = dict(self._running)
        tokens = {run: token for run, token in running.values()}
        wanted = still_running(self._database, tokens) if tokens else set()
        with self._guard:
            for identity, (run, token) in running.items():
                if run not in wanted and self._running.get(identity) == (run, token):
                    self._lost.add(identity)

    def _forget(self, identity: str) -> None:
        with self._guard:
            self._running.pop(identity, None)
            self._lost.discard(identity)
