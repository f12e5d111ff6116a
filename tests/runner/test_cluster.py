"""Cells on Ray's nodes: declared GPUs that are shared by memory, a node that goes away, addresses that are wrong."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from npas_bench import __version__
from npas_bench.cells.cell import Cell
from npas_bench.errors import NpasBenchError
from npas_bench.recipe import Recipe
from npas_bench.runner.cluster import RayExecutor
from npas_bench.runner.cluster.connection import Connection
from npas_bench.runner.cluster.worker import Answer, Facts, Worker
from npas_bench.runner.executors import Listener
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.work import Attempt, Cost, Outcome, Progress, Work, write_progress
from npas_bench.tasks import DataVersion
from npas_bench.training.loop import EpochReport

GIB = 2**30
SOURCE = DataVersion("digits", "digits", "d", True)
RECIPE = Recipe(epochs=2, batch_size=10, learning_rate=0.1)


def work(method, seed, memory=None, device="cuda"):
    cell = Cell("digits", 1, "wrn-10-1", method, 1, {}, 100, RECIPE, seed)
    return Work(cell, SOURCE, device, memory=memory)


class Pretending(Worker):
    """A worker on a GPU of 80 GiB that is none: sleeps instead of training, and notes what it sees."""

    def facts(self, marker, tasks, methods):
        return Facts(__version__, source_digest(), Path(marker).exists(), 80 * GIB, os.getpid(), "no GPU")

    def run(self, attempt):
        gpu, begun = os.environ["CUDA_VISIBLE_DEVICES"], time.time()
        attempt.folder.mkdir(parents=True, exist_ok=True)
        needs = 50 * GIB if attempt.cell.method == "large" else 15 * GIB
        time.sleep(0.5)
        write_progress(attempt, Progress(EpochReport(1, 1.0, 0.1, 0.5, 0.1), needs))
        refused = attempt.folder.parent / "refused"
        if attempt.cell.method == "greedy" and not refused.exists() and wait_for(lambda: busy(attempt, gpu)):
            refused.touch()
            outcome = Outcome(state="failed", message="out of memory", cause="memory")
            return Answer(outcome.model_dump_json(), 0)
        mine = attempt.folder / f"{attempt.token}.busy"
        mine.write_text(gpu)
        if attempt.cell.method == "long":
            wait_for(refused.exists)
        time.sleep(1.0)
        if attempt.cell.method == "small":
            wait_for(lambda: met(attempt.folder.parent, gpu), seconds=20)
        mine.unlink()
        cost = Cost(train_seconds=1, seconds_per_step=1, evaluate_seconds=0, peak_memory=needs)
        (attempt.folder / "seen").write_text(json.dumps([gpu, begun, time.time()]))
        return Answer(Outcome(state="done", cost=cost).model_dump_json(), 0)


def wait_for(condition, seconds=60):
    """Wait until a condition holds; whether it came to hold in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def busy(attempt, gpu):
    """Whether another cell is at work on a GPU."""
    return any(path.read_text() == gpu for path in attempt.folder.parent.glob("*/*.busy"))


def met(folder, gpu):
    """Whether two cells have been at work on a GPU at the same time; then, or ever before."""
    sign = folder / f"met-{gpu}"
    if sum(path.read_text() == gpu for path in folder.glob("*/*.busy")) > 1:
        sign.touch()
    return sign.exists()


class Noting(Listener):
    def __init__(self, folder):
        self.folder = folder
        self.tokens = 0
        self.done = {}
        self.retries = []

    def started(self, work):
        self.tokens += 1
        return Attempt(work, f"t{self.tokens}", self.folder / work.cell.identity[:20])

    def progressed(self, attempt, report):
        pass

    def retried(self, attempt, ended):
        self.retries.append((attempt.cell.method, ended))

    def finished(self, attempt, outcome):
        assert attempt.cell.identity not in self.done
        self.done[attempt.cell.identity] = (attempt, outcome)

    def dropped(self, attempt):
        pass

    def unwanted(self):
        return set()


def together(folder):
    """The GPUs seen, and the most that were at work on one at a time."""
    spans = [json.loads(path.read_text()) for path in folder.glob("*/seen")]
    most = max(sum(gpu == other and b <= begun < e for other, b, e in spans) for gpu, begun, _ in spans)
    return {gpu for gpu, _, _ in spans}, most


class Node:
    """`ray start` in a process group of its own."""

    def __init__(self, *arguments):
        for _ in range(3):
            if self.started(arguments):
                return
        pytest.fail(self.said)

    def started(self, arguments):
        """Whether it came up: nodes that begin side by side may want the same port."""
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--block", "--disable-usage-stats", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.said = ""
        for line in iter(self.process.stdout.readline, b""):
            self.said += line.decode(errors="replace")
            if "Ray runtime started" in self.said:
                # It goes on talking, and must not wait for a listener.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return True
        self.kill()
        return False

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster():
    """A head without anything to compute on, and two nodes of a thread and two declared GPUs each."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    here = ("--node-ip-address=127.0.0.1", "--object-store-memory=80000000")
    nodes = [Node("--head", f"--port={port}", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false", *here)]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    nodes += [Node(f"--address={address}", "--num-cpus=2", "--num-gpus=2", *here) for _ in range(2)]
    yield address, nodes[1:]
    for node in reversed(nodes):
        if node.process.poll() is None:
            node.kill()


@pytest.mark.slow
def test_gpus_are_shared_by_what_cells_were_measured_to_need(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    listener = Noting(tmp_path)
    with Declaring(tmp_path, gpus=2) as executor:
        executor.run([work("small", seed) for seed in range(8)], listener)
    gpus, most = together(tmp_path)
    assert (len(listener.done), listener.retries) == (8, [])
    # The first of its kind on a GPU is measured alone; four of 15 GiB fit into one of 80, five do not.
    assert gpus == {"0", "1"}
    assert 2 <= most <= 4


@pytest.mark.slow
def test_a_cell_that_ran_out_of_memory_beside_others_is_tried_once_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    listener = Noting(tmp_path)
    works = [work("long", 0, 15 * GIB), work("greedy", 0, 1 * GIB)]
    with Declaring(tmp_path, gpus=1) as executor:
        executor.run(works, listener)
    assert {outcome.state for _, outcome in listener.done.values()} == {"done"}
    ((method, ended),) = listener.retries
    assert (method, ended.why) == ("greedy", "out of memory beside others")
    assert 0 < ended.share < 1


class Declaring(RayExecutor):
    """On a cluster of this machine with GPUs that are declared, not there."""

    def __init__(self, folder, gpus):
        super().__init__(None, folder, Pretending)
        self.gpus = gpus

    def __enter__(self):
        import ray

        start = ray.init
        ray.init = lambda **options: start(**options, num_gpus=self.gpus)
        try:
            self._connection = Connection()
        finally:
            ray.init = start
        return self


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_node_that_is_removed_half_way_takes_nothing_with_it(cluster, tmp_path, monkeypatch):
    address, nodes = cluster
    listener = Noting(tmp_path)
    finished, ended = listener.finished, []

    def finish(attempt, outcome):
        finished(attempt, outcome)
        ended.append(attempt)
        if len(ended) == 3:
            nodes[1].kill()

    listener.finished = finish
    with RayExecutor(address, tmp_path, Pretending) as executor:
        executor.run([work("large", seed, 50 * GIB) for seed in range(12)], listener)
    assert len(listener.done) == 12
    assert {outcome.state for _, outcome in listener.done.values()} == {"done"}
    assert all("died" in entry.why for _, entry in listener.retries)


class OfAnotherVersion(Pretending):
    def facts(self, marker, tasks, methods):
        return super().facts(marker, tasks, methods)._replace(version="0.0.1", code="old")


class Blind(Pretending):
    def facts(self, marker, tasks, methods):
        return super().facts("/nowhere/at/all", tasks, methods)


@pytest.mark.slow
def test_workers_of_another_version_or_without_the_folder_are_refused(tmp_path):
    for worker, message in ((OfAnotherVersion, "its npas-bench is 0.0.1"), (Blind, "it does not see .*--workdir")):
        with (
            pytest.raises(NpasBenchError, match=message),
            RayExecutor(None, tmp_path, worker) as executor,
        ):
            executor.run([work("small", 0, device="cpu")], Noting(tmp_path))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:6379"])
def test_an_address_that_does_not_answer_is_an_error_with_a_remedy(address):
    with pytest.raises(NpasBenchError, match=r"no Ray cluster answers at .*ray start --head"):
        Connection(address)


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:port", ""])
def test_an_address_that_is_none_is_an_error(address):
    with pytest.raises(NpasBenchError, match="HOST:PORT"):
        Connection(address)
