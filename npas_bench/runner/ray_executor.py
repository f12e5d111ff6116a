"""Running cells on Ray's workers on this machine, as many at a time as its cores or GPUs allow."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from npas_bench.errors import NpasBenchError
from npas_bench.runner.execution import execute
from npas_bench.runner.executors import Executor, Listener
from npas_bench.runner.work import Outcome, Work, read_progress, write_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

# A cell whose worker died this often without an epoch between is given up: it may be what kills them.
ATTEMPTS = 4
_POLL_SECONDS = 0.5
_STORE_BYTES = 80 * 1024**2


class RayExecutor(Executor):
    """Cells on Ray's workers. Retries are this executor's own, and only for workers that died."""

    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run them, in their order as workers come free."""
        import ray

        # Nothing leaves this machine, and a worker that was given no GPU shall see none.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"
        ray.init(
            address="local",
            num_cpus=os.cpu_count() or 1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_STORE_BYTES,
        )
        try:
            _Schedule(ray, works, listener).run()
        finally:
            ray.shutdown()


class _Schedule:
    def __init__(self, ray: Any, works: Sequence[Work], listener: Listener) -> None:
        self._ray = ray
        self._remote = ray.remote(max_retries=0)(_execute_remotely)
        self._waiting = list(works)
        self._listener = listener
        self._running: dict[Any, Work] = {}
        self._attempts: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._free = {key: int(count) for key, count in ray.cluster_resources().items() if key in ("CPU", "GPU")}

    def run(self) -> None:
        while self._waiting or self._running:
            self._start_what_fits()
            ready, _ = self._ray.wait(list(self._running), timeout=_POLL_SECONDS)
            for reference in ready:
                self._end(reference)
            self._look_at_progress()

    def _start_what_fits(self) -> None:
        for planned in list(self._waiting):
            needs = self._needs(planned)
            if self._running and any(self._free.get(key, 0) < count for key, count in needs.items()):
                continue
            self._waiting.remove(planned)
            for key, count in needs.items():
                self._free[key] = self._free.get(key, 0) - count
            work = self._listener.started(planned)
            options = {"num_cpus": min(needs["CPU"], os.cpu_count() or 1), "num_gpus": needs["GPU"]}
            self._running[self._remote.options(**options).remote(work)] = work

    def _needs(self, work: Work) -> dict[str, int]:
        count = work.engine.processes
        return {"CPU": count * work.cell.recipe.threads, "GPU": count if work.device.startswith("cuda") else 0}

    def _end(self, reference: Any) -> None:
        work = self._running.pop(reference)
        for key, count in self._needs(work).items():
            self._free[key] += count
        try:
            outcome = Outcome.model_validate_json(self._ray.get(reference))
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.NodeDiedError,
            self._ray.exceptions.OutOfMemoryError,
        ) as died:
            identity = work.cell.identity
            self._attempts[identity] = self._attempts.get(identity, 0) + 1
            if self._attempts[identity] < ATTEMPTS:
                log.warning("the worker of %s died; it goes on from its last epoch", work.cell)
                self._waiting.insert(0, work)
                return
            message = f"its worker died {ATTEMPTS} times without an epoch between: {type(died).__name__}"
            outcome = Outcome(state="failed", message=message, resumable=True)
        except self._ray.exceptions.RayError as error:
            # Not the cell's fault: execute() answers for whatever a cell does wrong.
            cause = getattr(error, "cause", None) or error
            raise NpasBenchError(
                f"Ray stopped working at {work.cell}: {cause}. What was finished is stored; the same command goes on"
            ) from error
        self._listener.finished(work, outcome)

    def _look_at_progress(self) -> None:
        for work in self._running.values():
            report = read_progress(work)
            if report is not None and report.epoch > self._seen.get(work.cell.identity, 0):
                self._seen[work.cell.identity] = report.epoch
                self._attempts.pop(work.cell.identity, None)
                self._listener.progressed(work, report)


def _execute_remotely(work: Work) -> str:
    outcome = execute(work, partial(write_progress, work))
    return outcome.model_dump_json()
