"""Running cells on a pool of long-lived Ray workers, as many side by side as fit.

This executor retries by itself, and only after what no cell is to blame for: the death of a worker, of a node or of
all of Ray. A cell that ran out of a GPU's memory beside others is tried once more with a GPU to itself.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from npas_bench.database.states import RunState
from npas_bench.errors import NpasBenchError
from npas_bench.runner.cluster.answers import first_line, outcome_of, trouble_of
from npas_bench.runner.cluster.connection import Connection
from npas_bench.runner.cluster.pool import Pool, PoolWorker
from npas_bench.runner.cluster.slots import Needs, Slot, slots_of
from npas_bench.runner.cluster.worker import Answer, Facts, Worker
from npas_bench.runner.containment import TraceTeller
from npas_bench.runner.executors import Ended, Executor, Listener
from npas_bench.runner.failures import overdue_outcome
from npas_bench.runner.work import Attempt, Outcome, Work, read_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

# A cell whose worker died this often without an epoch in between is given up, since it may be what kills them.
ATTEMPTS = 4
# How often Ray itself may die without the end of a cell or of an epoch in between.
RESTARTS = 5
# How many waiting cells are examined to find one that fits beside those that run.
_AHEAD = 100
_POLL_SECONDS = 0.5
_LOOK_SECONDS = 2.0
# How long to wait for a usable node: nodes may join, or come back.
_JOIN_SECONDS = 120.0


class RayExecutor(Executor):
    """Runs cells on Ray's workers.

    Args:
        address: address of a running cluster; None starts one on this machine.
        folder: the folder for checkpoints, which all nodes see.
        worker: the class that runs in worker processes; tests replace it.
    """

    def __init__(self, address: str | None, folder: Path, worker: type[Worker] = Worker) -> None:
        self._address = address
        self._folder = folder
        self._worker = worker
        self._connection: Connection | None = None

    @override
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run the cells in order, as workers become free."""
        if self._connection is None:
            self._connection = Connection(self._address)
        if works:
            _Schedule(self._connection, works, listener, self._folder, self._worker).run()

    @override
    def close(self) -> None:
        """End the workers, and the cluster too if it was started here."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Running:
    """A cell on a worker.

    Attributes:
        attempt: the attempt at the cell.
        worker: the worker that runs it.
        begun: when it began, by a clock that never jumps.
        epoch: the epoch that it is known to have reached.
        beside: whether it ever shared its slot with others.
    """

    def __init__(self, attempt: Attempt, worker: PoolWorker, *, beside: bool) -> None:
        self.attempt = attempt
        self.worker = worker
        self.begun = time.monotonic()
        self.epoch = 0
        self.beside = beside

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


class _Schedule:
    def __init__(
        self,
        connection: Connection,
        works: Sequence[Work],
        listener: Listener,
        folder: Path,
        worker: type[Worker],
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._waiting = list(works)
        self._device = works[0].device
        self._processes = works[0].engine.processes
        self._running: dict[str, _Running] = {}
        self._deaths: dict[str, int] = {}
        self._alone: set[str] = set()
        self._learned: dict[tuple[object, ...], int] = {}
        self._slots: dict[str, Slot] = {}
        self._looked = -_LOOK_SECONDS
        self._read_progress = 0.0
        self._deserted: float | None = None
        self._restarts = 0
        self._teller = TraceTeller()
        self._marker = folder.resolve() / f".{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._marker.write_text("npas-bench looks whether workers see this folder\n", encoding="utf-8")
        except OSError as error:
            raise NpasBenchError(f"{folder} cannot be written: {error}; name another with --workdir") from None
        preloaded = [sorted({work.cell.task for work in works}), sorted({work.cell.method for work in works})]
        self._pool = Pool(connection, self._marker, worker, preloaded)

    def run(self) -> None:
        try:
            while self._waiting or self._running:
                self._look_at_nodes()
                self._start_what_fits()
                self._await()
                self._look_at_progress()
                self._stop_what_must_end()
                if self._connection.broken:
                    self._restart_ray()
        finally:
            self._pool.close()
            with suppress(OSError):
                self._marker.unlink()

    def _look_at_nodes(self) -> None:
        if self._deserted is None and time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        now = {slot.name: slot for slot in slots_of(self._connection.nodes(), self._device, self._processes)}
        for name, slot in now.items():
            self._slots.setdefault(name, slot)
        for name in self._slots.keys() - now.keys():
            slot = self._slots.pop(name)
            log.warning("node %s is gone", slot.node[:8])
            self._pool.forget(slot)
        for slot in self._slots.values():
            if slot.again is not None and time.monotonic() > slot.again:
                slot.trouble, slot.again = None, None
        if self._running or any(slot.trouble is None for slot in self._slots.values()):
            self._deserted = None
            return
        self._wait_for_a_slot()

    def _wait_for_a_slot(self) -> None:
        """Wait while nothing runs and nothing can be run: nodes may join, or come back."""
        troubles = "; ".join(sorted({slot.trouble for slot in self._slots.values() if slot.trouble}))
        hopeless = self._slots and all(slot.again is None for slot in self._slots.values())
        what = "GPU" if self._device.startswith("cuda") else "CPU"
        if self._deserted is None:
            self._deserted = time.monotonic()
            if not troubles:
                log.warning("no node of the Ray cluster has a %s; waiting for one", what)
        if hopeless and any(slot.given_up for slot in self._slots.values()):
            self._fail_waiting(f"no worker can run it: {troubles}")
            return
        if hopeless or time.monotonic() - self._deserted > _JOIN_SECONDS:
            reason = (
                f"no worker can be used: {troubles}"
                if troubles
                else f"no node of the Ray cluster has a {what}: start one with ray start --num-{what.lower()}s"
            )
            raise NpasBenchError(f"{reason}. What was finished is stored; the same command goes on")
        time.sleep(_POLL_SECONDS)

    def _fail_waiting(self, reason: str) -> None:
        for work in self._waiting:
            attempt = self._listener.started(work)
            if attempt is not None:
                self._listener.finished(attempt, Outcome(state=RunState.FAILED, message=reason, resumable=True))
        self._waiting.clear()

    def _start_what_fits(self) -> None:
        passed_over, begun = 0, time.monotonic()
        reserved: set[str] = set()
        while passed_over < min(_AHEAD, len(self._waiting)):
            work = self._waiting[passed_over]
            needs = self._needs(work)
            slots = [slot for name, slot in self._slots.items() if name not in reserved]
            if not any(slot.fits(needs) for slot in slots):
                # Small cells must not keep a cell waiting for ever that needs a slot to itself.
                if slots and (needs.alone or (slots[0].gpus and needs.memory is None)):
                    reserved.add(min(slots, key=lambda slot: len(slot.taken)).name)
                passed_over += 1
                continue
            worker = self._worker(needs, slots)
            if worker is None:
                return
            if time.monotonic() - begun > _POLL_SECONDS:
                # Many claims may fail in a row, and the running cells have to be looked after.
                return
            del self._waiting[passed_over]
            attempt = self._listener.started(work)
            if attempt is not None:
                self._assign(attempt, worker, needs)

    def _worker(self, needs: Needs, slots: list[Slot]) -> PoolWorker | None:
        """An idle worker on a slot where a cell fits; None while suitable workers are still starting."""
        fitting = [slot for slot in slots if slot.fits(needs)]
        # The emptiest slots come first, so that every GPU is at work before GPUs are shared.
        fitting.sort(key=lambda slot: len(slot.taken))
        for slot in fitting:
            worker = self._pool.idle(slot, needs.threads)
            if worker is not None:
                return worker
        wanted = len(self._waiting)
        for slot in fitting:
            self._pool.prepare(slot, needs.threads, wanted)
        return None

    def _assign(self, attempt: Attempt, worker: PoolWorker, needs: Needs) -> None:
        slot, identity = worker.slot, attempt.cell.identity
        for other in self._running.values():
            if other.worker.slot is slot:
                other.beside = True
        beside = bool(slot.taken)
        slot.taken[identity] = needs
        if slot.gpus and not slot.spares(self._pool.waiting_on(slot) - 1):
            # Idle workers hold memory too.
            self._pool.clear(slot, worker)
        self._running[identity] = _Running(attempt, worker, beside=beside)
        self._pool.submit(worker, attempt)

    def _needs(self, work: Work) -> Needs:
        identity = work.cell.identity
        memory = self._learned.get(_kind(work), work.memory)
        return Needs.of(work, memory, alone=identity in self._alone)

    def _await(self) -> None:
        for worker, answer in self._pool.wait(_POLL_SECONDS):
            if worker.attempt is None:
                self._introduce(worker, answer)
                continue
            running = self._running.pop(worker.attempt.cell.identity)
            share = worker.slot.share(running.attempt.cell.identity)
            worker.slot.taken.pop(running.attempt.cell.identity, None)
            if isinstance(answer, Exception):
                self._pool.discard(worker)
                self._died(running, answer)
            elif isinstance(answer, Answer):
                self._restarts = 0
                outcome = outcome_of(answer)
                self._ended(running, outcome, share)
                self._pool.free(worker, answer.resident)
                # A failed cell may have left a broken GPU context, memory or threads behind.
                if self._left_traces(answer) or outcome.state is RunState.FAILED:
                    self._pool.discard(worker)

    def _left_traces(self, answer: Answer) -> bool:
        """Tell whether the next cell of a worker might be computed otherwise, because of what a plugin changed."""
        traces = answer.traces
        if traces is None:
            return False
        # Whether everything was found and set back can never be quite certain.
        self._teller.tell(traces, "; each worker that this happens to is replaced")
        return traces.computing or bool(traces.lost)

    def _introduce(self, worker: PoolWorker, answer: Any) -> None:
        """Take note that a new worker has described itself, or could not be started."""
        if isinstance(answer, Facts):
            trouble = trouble_of(answer, self._marker)
            if trouble is None:
                worker.ready = True
                worker.slot.memory = worker.slot.memory or answer.gpu_memory
                return
            if worker.slot.trouble is None:
                log.warning("node %s is not used: %s", worker.slot.node[:8], trouble)
            worker.slot.trouble = trouble
        self._pool.discard(worker)

    def _ended(self, running: _Running, outcome: Outcome, share: float | None) -> None:
        work, identity = running.attempt.work, running.attempt.cell.identity
        if outcome.cost is not None:
            self._learn(work, outcome.cost.peak_memory)
        if outcome.cause == "memory" and running.beside and identity not in self._alone:
            self._alone.add(identity)
            memory = self._learned.get(_kind(work), work.memory)
            self._listener.retried(
                running.attempt, Ended("out of memory beside others", running.seconds, share, memory, alone=True)
            )
            self._waiting.insert(0, work)
            return
        self._listener.finished(running.attempt, outcome)

    def _died(self, running: _Running, died: Exception) -> None:
        work, identity = running.attempt.work, running.attempt.cell.identity
        if not self._pool.infrastructure(died):
            # execute() turns every error of a cell into an outcome, so that this is not the cell's fault.
            message = f"its worker failed: {type(died).__name__}: {first_line(died)}"
            self._listener.finished(running.attempt, Outcome(state=RunState.FAILED, message=message, resumable=True))
            return
        if not self._connection.broken:
            self._deaths[identity] = self._deaths.get(identity, 0) + 1
        if self._deaths.get(identity, 0) < ATTEMPTS:
            log.info("the worker of %s died; it goes on from its last epoch", work.cell)
            self._listener.retried(running.attempt, Ended(f"its worker died: {type(died).__name__}", running.seconds))
            self._waiting.insert(0, work)
            return
        message = f"its worker died {ATTEMPTS} times without an epoch between: {type(died).__name__}"
        self._listener.finished(running.attempt, Outcome(state=RunState.FAILED, message=message, resumable=True))

    def _look_at_progress(self) -> None:
        if time.monotonic() - self._read_progress < _POLL_SECONDS:
            return
        self._read_progress = time.monotonic()
        for identity, running in self._running.items():
            progress = read_progress(running.attempt)
            if progress is None or progress.report.epoch <= running.epoch:
                continue
            running.epoch = progress.report.epoch
            self._restarts = 0
            self._deaths.pop(identity, None)
            self._learn(running.attempt.work, progress.memory)
            taken = running.worker.slot.taken
            taken[identity] = taken[identity]._replace(memory=self._learned[_kind(running.attempt.work)])
            self._listener.progressed(running.attempt, progress.report)

    def _learn(self, work: Work, memory: int) -> None:
        kind = _kind(work)
        self._learned[kind] = max(memory, self._learned.get(kind, 0))

    def _stop_what_must_end(self) -> None:
        unwanted = self._listener.unwanted()
        for identity, running in list(self._running.items()):
            attempt, work = running.attempt, running.attempt.work
            late = work.deadline is not None and running.seconds > work.deadline
            if identity not in unwanted and not late:
                continue
            del self._running[identity]
            running.worker.slot.taken.pop(identity, None)
            self._pool.discard(running.worker)
            if identity in unwanted:
                self._listener.dropped(attempt)
            else:
                self._listener.finished(attempt, overdue_outcome(work, running.epoch))

    def _restart_ray(self) -> None:
        """Start Ray again after its processes on this machine have died, and with them every worker."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise NpasBenchError(
                f"Ray died {RESTARTS} times without an epoch between. What was finished is stored; the same command "
                "goes on"
            )
        log.warning("Ray died on this machine; starting it again")
        for running in self._running.values():
            self._listener.retried(running.attempt, Ended("Ray died", running.seconds))
        self._waiting[:0] = [running.attempt.work for running in self._running.values()]
        self._running.clear()
        self._slots.clear()
        self._pool.lost()
        self._connection.restart()


def _kind(work: Work) -> tuple[object, ...]:
    """The facts that cells share if they differ only in their seed."""
    cell = work.cell
    return (cell.task, cell.architecture, cell.method_label, cell.budget, cell.recipe, work.engine)
