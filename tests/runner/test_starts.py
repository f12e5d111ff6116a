"""Workers that cannot be started, on nodes that are pretended. Ray itself is not started."""

from pathlib import Path

import pytest
import ray

from npas_bench import __version__
from npas_bench.runner.cluster import executor, pool
from npas_bench.runner.cluster.executor import RayExecutor
from npas_bench.runner.cluster.worker import Answer, Facts
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.work import Outcome
from tests.runner.test_cluster import Noting, work

KILLED = ray.exceptions.OutOfMemoryError("The node is low on memory.\nRead the documentation.")
FACTS = Facts(__version__, source_digest(), True, None, 1, "no device")
A, B = "a" * 56, "b" * 56
DONE = Answer(Outcome(state="done").model_dump_json(), 0)


class Nodes:
    """Nodes by the number of their threads, and what stands for the connection to Ray and for Ray's functions.

    Args:
        threads: number of threads of each node.
        starts: answers whether the worker of that number, on the node of that name, can be started.
        ends: answers whether the cell of the worker of that number ends, of which it is asked again and again.
    """

    exceptions = ray.exceptions
    own, broken = True, False

    def __init__(self, threads, starts, ends=lambda _: True):
        self.ray = self
        self.threads, self.starts, self.ends = threads, starts, ends
        self.started = []
        self.given = []

    def nodes(self):
        return {name: {"CPU": float(number)} for name, number in self.threads.items()}

    def remote(self, **_):
        return lambda _: self

    def options(self, scheduling_strategy, **_):
        return Start(self, scheduling_strategy.node_id)

    def wait(self, calls, num_returns, timeout):
        ready = [call for call in calls if call[0] != "run" or self.ends(call[1])]
        return ready, [call for call in calls if call not in ready]

    def get(self, call):
        kind, number, node = call
        if kind == "run":
            self.given.append(node)
            return DONE
        if not self.starts(number, node):
            raise KILLED
        return FACTS

    def kill(self, _):
        pass

    def close(self):
        pass


class Start:
    """A worker of a node, from its start on."""

    def __init__(self, nodes, node):
        self.nodes, self.node = nodes, node
        self.facts = self.run = self

    def remote(self, *given):
        if len(given) == 1 and isinstance(given[0], dict):
            self.nodes.started.append(self.node)
            self.number = len(self.nodes.started)
            return self
        return ("facts" if len(given) == 3 else "run", self.number, self.node)


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    """Next to nothing is waited for."""
    monkeypatch.setattr(pool, "_REST_SECONDS", 0.0)
    for name in ("_POLL_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(executor, name, 0.01)


def outcomes(nodes, folder, cells):
    """How cells end on nodes: their states and messages."""
    listener = Noting(folder)
    with RayExecutor(None, folder) as running:
        running._connection = nodes
        running.run([work("small", seed, device="cpu") for seed in range(cells)], listener)
    found = [outcome for _, outcome in listener.done.values()]
    assert len(found) == cells
    return {(outcome.state, outcome.message, outcome.resumable) for outcome in found}


def test_where_workers_can_never_start_the_cells_fail_with_the_reason(tmp_path):
    nodes = Nodes({A: 1}, lambda *_: False)
    message = (
        "no worker can run it: 12 workers in a row did not start (Ray ended them because the node is short of memory)"
    )
    assert outcomes(nodes, tmp_path, 3) == {("failed", message, True)}
    assert len(nodes.started) == 12


def test_workers_that_die_together_count_as_one_try(tmp_path):
    nodes = Nodes({A: 32}, lambda number, _: number > 32 + 5)
    assert outcomes(nodes, tmp_path, 40) == {("done", None, False)}
    # After the first dozens, one worker shows whether others can be started.
    assert nodes.started[:38] == [A] * 38


@pytest.mark.parametrize("failures", [1, 3, 11])
def test_workers_that_start_in_the_end_run_everything(failures, tmp_path):
    nodes = Nodes({A: 1}, lambda number, _: number > failures)
    assert outcomes(nodes, tmp_path, 3) == {("done", None, False)}
    assert len(nodes.started) == failures + 1


def test_every_worker_that_starts_gives_its_node_another_dozen(tmp_path):
    nodes = Nodes({A: 1}, lambda number, _: number % 10 == 0)
    discarded = pool.Pool.free

    def replace(self, worker, resident):
        discarded(self, worker, resident)
        self.discard(worker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.Pool, "free", replace)
        assert outcomes(nodes, tmp_path, 4) == {("done", None, False)}
    assert len(nodes.started) == 40


def test_a_node_where_workers_can_never_start_leaves_the_cells_to_another(tmp_path):
    nodes = Nodes({A: 2, B: 1}, lambda _, node: node == B)
    assert outcomes(nodes, tmp_path, 8) == {("done", None, False)}
    assert set(nodes.given) == {B}


def test_a_worker_that_runs_keeps_its_node_in_use_while_no_other_can_start(tmp_path):
    nodes = Nodes({A: 4}, lambda number, _: number == 1, ends=lambda _: len(nodes.started) > 20)
    assert outcomes(nodes, tmp_path, 4) == {("done", None, False)}
    assert len(nodes.started) > 12


def test_the_folder_holds_nothing_of_it_afterwards(tmp_path):
    outcomes(Nodes({A: 1}, lambda *_: False), tmp_path, 1)
    assert list(Path(tmp_path).iterdir()) == []
