"""A pool of long-lived workers, which start when there is work and stay while they are healthy."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npas_bench.runner.cluster.connection import Connection
    from npas_bench.runner.cluster.slots import Slot
    from npas_bench.runner.cluster.worker import Answer, Facts, Worker
    from npas_bench.runner.work import Attempt

log = logging.getLogger(__name__)

# How much more memory a worker may hold than after its first cell before it is replaced.
_GROWTH_BYTES = 1024**3
# This is longer than imports take on a busy machine.
_START_SECONDS = 300.0
# A slot on which so many workers died before they answered rests for a while ...
_FAILED_STARTS = 3
_REST_SECONDS = 20.0
# ... and is given up after so many of them, if none has answered in between.
MOST_FAILED_STARTS = 12
# Environment variables that workers on other machines need too.
_PASSED = ("NPAS_BENCH_DATA",)
# The share of a whole GPU that each worker asks of Ray, small enough for as many workers as may share the GPU.
_SLIVER = 0.05


class PoolWorker:
    """A worker on a slot.

    Attributes:
        slot: the slot that it is on.
        threads: number of its CPU threads.
        actor: Ray's handle of it.
        ready: whether it has described itself and may be used.
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


@dataclass
class _Failed:
    """The starts on a slot that failed since a worker there has last answered.

    Attributes:
        starts: how many there were.
        rested: when the slot's last rest began, by a clock that never jumps.
    """

    starts: int = 0
    rested: float = 0.0


class Pool:
    """The workers of a schedule.

    Args:
        connection: the connection to Ray.
        marker: a file that workers must see.
        worker: the class that runs in worker processes.
        preloaded: names of tasks and of methods that workers import before they get work.
    """

    def __init__(self, connection: Connection, marker: Path, worker: type[Worker], preloaded: list[list[str]]) -> None:
        self._connection = connection
        self._marker = marker
        self._preloaded = preloaded
        self._remote = connection.ray.remote(max_restarts=0, max_task_retries=0)(worker)
        self._workers: list[PoolWorker] = []
        self._calls: dict[Any, PoolWorker] = {}
        self._groups: dict[str, Any] = {}
        self._failed: dict[str, _Failed] = {}

    def idle(self, slot: Slot, threads: int) -> PoolWorker | None:
        """A worker on a slot that is ready and has nothing to do; None if there is none."""
        for worker in self._workers:
            if worker.slot is slot and worker.threads == threads and worker.ready and worker.attempt is None:
                return worker
        return None

    def prepare(self, slot: Slot, threads: int, wanted: int) -> None:
        """Start workers on a slot, as far as there is room and work for them."""
        if slot.node not in self._connection.nodes():
            # The node has gone since the last look; the next look will notice.
            return
        for other in [w for w in self._workers if w.slot is slot and w.threads != threads and _resting(w)]:
            self.discard(other)
        there = [worker for worker in self._workers if worker.slot is slot]
        coming = sum(not worker.ready for worker in there)
        room = slot.threads - sum(worker.threads for worker in there)
        # The GPU's memory is known when its first worker answers, and what fits beside it when its cell is measured.
        if slot.gpus:
            most = 0 if any(not worker.ready for worker in there) else 1
        else:
            most = 0 if there and room < threads else max(1, room // threads)
        if slot.name in self._failed:
            # One worker shows whether they can be started again.
            most = min(most, 1 - coming)
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
        """Ray's reservation of a whole GPU, so that Ray shows the same GPU to all workers that share it."""
        from ray.util.placement_group import placement_group

        if slot.name not in self._groups:
            bundle: dict[str, float] = {"GPU": slot.gpus}
            if slot.cpus:
                bundle["CPU"] = slot.cpus
            # The node's id is used since two of Ray's nodes may have the same address.
            label = {"ray.io/node-id": slot.node}
            self._groups[slot.name] = placement_group([bundle], strategy="STRICT_PACK", bundle_label_selector=[label])
        return self._groups[slot.name]

    def submit(self, worker: PoolWorker, attempt: Attempt) -> None:
        """Let an idle worker run a cell."""
        worker.attempt = attempt
        self._calls[worker.actor.run.remote(attempt)] = worker

    def wait(self, seconds: float) -> Iterator[tuple[PoolWorker, Facts | Answer | Exception]]:
        """The answers of workers, or the reasons why there are none; waits a while for the first."""
        if not self._calls:
            time.sleep(seconds)
            return
        calls = list(self._calls)
        ready, rest = self._connection.ray.wait(calls, num_returns=1, timeout=seconds)
        if ready and rest:
            # Others may have answered in the meantime.
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
                self._failed.pop(worker.slot.name, None)
            yield worker, answer
        for worker in [w for w in self._workers if not w.ready and time.monotonic() - w.begun > _START_SECONDS]:
            self._note_failed_start(worker, TimeoutError("it did not start"))
            self.discard(worker)

    def _note_failed_start(self, worker: PoolWorker, error: Exception) -> None:
        slot = worker.slot
        failed = self._failed.setdefault(slot.name, _Failed())
        if worker.begun < failed.rested:
            # It began together with those that the slot has rested for.
            return
        failed.starts += 1
        if failed.starts % _FAILED_STARTS or slot.trouble is not None:
            return
        reason = self._reason(error)
        failed.rested = time.monotonic()
        # Workers that run there will end, and make room for others.
        if failed.starts >= MOST_FAILED_STARTS and not any(w.slot is slot and w.ready for w in self._workers):
            slot.given_up = True
            slot.trouble = f"{failed.starts} workers in a row did not start ({reason})"
        else:
            slot.trouble = f"workers cannot be started on it ({reason})"
            # The node may soon be known as dead, or recover.
            slot.again = failed.rested + _REST_SECONDS
        log.warning("node %s is not used: %s", slot.node[:8], slot.trouble)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._connection.ray.exceptions.OutOfMemoryError):
            # Pages of advice follow, on settings of Ray.
            return "Ray ended them because the node is short of memory"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[-1].strip()

    def free(self, worker: PoolWorker, resident: int) -> None:
        """Keep a worker whose cell has ended, unless its memory grew."""
        worker.attempt = None
        if worker.first_resident is None:
            worker.first_resident = resident
        elif resident > worker.first_resident + _GROWTH_BYTES:
            log.info("a worker holds %.1f GiB and is replaced", resident / 2**30)
            self.discard(worker)

    def clear(self, slot: Slot, besides: PoolWorker) -> None:
        """End the idle workers of a slot except one."""
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
        """Forget a slot that is gone, with its idle workers; Ray reports the death of the busy ones."""
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
        """The number of workers on a slot that have nothing to do."""
        return sum(worker.slot is slot and _resting(worker) for worker in self._workers)

    def lost(self) -> None:
        """Forget all workers, because Ray itself has died."""
        self._workers.clear()
        self._calls.clear()
        self._groups.clear()

    def infrastructure(self, error: Exception) -> bool:
        """Tell whether an error is about a lost worker, node or memory, and not about the cell."""
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
