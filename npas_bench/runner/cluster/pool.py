"""Long-lived workers on their slots: started when there is work, kept while they are healthy."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npas_bench.runner.cluster.connection import Connection
    from npas_bench.runner.cluster.slots import Slot
    from npas_bench.runner.cluster.worker import Answer, Facts, Worker
    from npas_bench.runner.work import Attempt

log = logging.getLogger(__name__)

# What a worker may hold more than after its first cell before another takes its slot.
_GROWTH_BYTES = 1024**3
# Longer than any import takes, on a machine that is busy with others.
_START_SECONDS = 300.0
# A slot where workers die before they ever answer is left alone for a while.
_FAILED_STARTS = 3
_REST_SECONDS = 20.0
# The user's settings that workers on other machines need too.
_PASSED = ("NPAS_BENCH_DATA",)
# Of a GPU that a slot holds whole: enough for as many workers as may share it.
_SLIVER = 0.05


class PoolWorker:
    """A worker on a slot.

    Attributes:
        slot: where it is.
        threads: CPU threads that it has.
        actor: Ray's handle.
        ready: whether it has said what it is, and may be used.
        attempt: the attempt that it is running; None while it is idle.
        begun: when it was started.
    """

    def __init__(self, slot: Slot, threads: int, actor: Any) -> None:
        self.slot = slot
        self.threads = threads
        self.actor = actor
        self.ready = False
        self.attempt: Attempt | None = None
        self.begun = time.monotonic()
        self.first_resident: int | None = None


class Pool:
    """The workers of a schedule.

    Args:
        connection: to Ray.
        marker: a file that workers must see.
        worker: what runs in worker processes.
        preloaded: names of tasks and of methods that they import before they get work.
    """

    def __init__(self, connection: Connection, marker: Path, worker: type[Worker], preloaded: list[list[str]]) -> None:
        self._connection = connection
        self._marker = marker
        self._preloaded = preloaded
        self._remote = connection.ray.remote(max_restarts=0, max_task_retries=0)(worker)
        self._workers: list[PoolWorker] = []
        self._calls: dict[Any, PoolWorker] = {}
        self._groups: dict[str, Any] = {}
        self._failed_starts: dict[str, int] = {}

    def idle(self, slot: Slot, threads: int) -> PoolWorker | None:
        """A worker there that is ready and has nothing to do."""
        for worker in self._workers:
            if worker.slot is slot and worker.threads == threads and worker.ready and worker.attempt is None:
                return worker
        return None

    def prepare(self, slot: Slot, threads: int, wanted: int) -> None:
        """Start workers there, as far as it has room and there is work for them."""
        if slot.node not in self._connection.nodes():
            # It went since the last look, which the next one will see.
            return
        for other in [w for w in self._workers if w.slot is slot and w.threads != threads and _resting(w)]:
            self.discard(other)
        there = [worker for worker in self._workers if worker.slot is slot]
        coming = sum(not worker.ready for worker in there)
        room = slot.threads - sum(worker.threads for worker in there)
        # A GPU's memory is known when its first worker answers, and who may share it when that one's cell is measured.
        if slot.gpus:
            most = 0 if any(not worker.ready for worker in there) else 1
        else:
            most = 0 if there and room < threads else max(1, room // threads)
        for _ in range(min(most, wanted - coming)):
            self._start(slot, threads)

    def _start(self, slot: Slot, threads: int) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        strategy: Any = NodeAffinitySchedulingStrategy(slot.node, soft=False)
        if slot.gpus:
            strategy = PlacementGroupSchedulingStrategy(self._group(slot), placement_group_bundle_index=0)
        options = {
            "num_cpus": 0 if slot.gpus else min(threads, slot.threads),
            "num_gpus": slot.gpus if slot.gpus != 1 else _SLIVER,
            "scheduling_strategy": strategy,
        }
        actor = self._remote.options(**options).remote(environment)
        worker = PoolWorker(slot, threads, actor)
        self._workers.append(worker)
        self._calls[actor.facts.remote(str(self._marker), *self._preloaded)] = worker

    def _group(self, slot: Slot) -> Any:
        """Ray's reservation of the whole GPU, which its workers share: Ray shows each of them the same one."""
        from ray.util.placement_group import placement_group

        if slot.name not in self._groups:
            bundle: dict[str, float] = {"GPU": slot.gpus}
            if slot.cpus:
                bundle["CPU"] = slot.cpus
            # By the node's id: two of Ray's nodes may have one address.
            label = {"ray.io/node-id": slot.node}
            self._groups[slot.name] = placement_group([bundle], strategy="STRICT_PACK", bundle_label_selector=[label])
        return self._groups[slot.name]

    def submit(self, worker: PoolWorker, attempt: Attempt) -> None:
        """Let an idle worker run a cell."""
        worker.attempt = attempt
        self._calls[worker.actor.run.remote(attempt)] = worker

    def wait(self, seconds: float) -> Iterator[tuple[PoolWorker, Facts | Answer | Exception]]:
        """What workers answered, or why they did not; waits a while if there is nothing."""
        if not self._calls:
            time.sleep(seconds)
            return
        calls = list(self._calls)
        ready, rest = self._connection.ray.wait(calls, num_returns=1, timeout=seconds)
        if ready and rest:
            # And whoever else has answered meanwhile.
            ready += self._connection.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        for reference in ready:
            worker = self._calls.pop(reference, None)
            if worker is None:
                continue
            answer: Facts | Answer | Exception
            try:
                answer = self._connection.ray.get(reference)
            except Exception as error:
                answer = error
            if worker.attempt is None and isinstance(answer, Exception):
                self._note_failed_start(worker, answer)
            elif worker.attempt is None:
                self._failed_starts.pop(worker.slot.name, None)
            yield worker, answer
        for worker in [w for w in self._workers if not w.ready and time.monotonic() - w.begun > _START_SECONDS]:
            self._note_failed_start(worker, TimeoutError("it did not start"))
            self.discard(worker)

    def _note_failed_start(self, worker: PoolWorker, error: Exception) -> None:
        name = worker.slot.name
        self._failed_starts[name] = self._failed_starts.get(name, 0) + 1
        if self._failed_starts[name] >= _FAILED_STARTS and worker.slot.trouble is None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            worker.slot.trouble = f"workers cannot be started on it ({lines[-1].strip()})"
            # It may be about to be known as dead, or be better soon.
            worker.slot.again = time.monotonic() + _REST_SECONDS
            self._failed_starts[name] = 0
            log.warning("node %s is not used: %s", worker.slot.node[:8], worker.slot.trouble)

    def free(self, worker: PoolWorker, resident: int) -> None:
        """A worker's cell ended; it is kept, unless its memory grew."""
        worker.attempt = None
        if worker.first_resident is None:
            worker.first_resident = resident
        elif resident > worker.first_resident + _GROWTH_BYTES:
            log.info("a worker holds %.1f GiB and is replaced", resident / 2**30)
            self.discard(worker)

    def clear(self, slot: Slot, besides: PoolWorker) -> None:
        """End the idle workers of a slot, but for one."""
        for worker in [w for w in self._workers if w.slot is slot and w is not besides and w.attempt is None]:
            self.discard(worker)

    def discard(self, worker: PoolWorker) -> None:
        """End a worker, whatever it is doing."""
        with suppress(Exception):
            self._connection.ray.kill(worker.actor)
        if worker in self._workers:
            self._workers.remove(worker)
        self._calls = {reference: other for reference, other in self._calls.items() if other is not worker}

    def forget(self, slot: Slot) -> None:
        """A slot is gone: its idle workers are, and of its busy ones Ray will say so."""
        for worker in [w for w in self._workers if w.slot is slot and w.attempt is None]:
            self.discard(worker)
        group = self._groups.pop(slot.name, None)
        if group is not None:
            self._release(group)

    def _release(self, group: Any) -> None:
        from ray.util.placement_group import remove_placement_group

        with suppress(Exception):
            remove_placement_group(group)

    def waiting_on(self, slot: Slot) -> int:
        """Workers there that have nothing to do."""
        return sum(worker.slot is slot and _resting(worker) for worker in self._workers)

    def lost(self) -> None:
        """All of Ray is gone."""
        self._workers.clear()
        self._calls.clear()
        self._groups.clear()

    def infrastructure(self, error: Exception) -> bool:
        """Whether an error says that a worker, its node or its memory is gone, and nothing about its cell."""
        exceptions = self._connection.ray.exceptions
        return isinstance(error, exceptions.RayError) and not isinstance(error, exceptions.RayTaskError)

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            self.discard(worker)
        for group in self._groups.values():
            self._release(group)
        self._groups.clear()


def _resting(worker: PoolWorker) -> bool:
    return worker.ready and worker.attempt is None
