"""A cell of a plugin leaves nothing behind: later cells of other methods give the numbers that they give alone."""

import asyncio
import logging
import os
import random
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from npas_bench import plugins
from npas_bench.cells.cell import Cell
from npas_bench.errors import NpasBenchError, UnsupportedBudget
from npas_bench.forecast.demand import Demands
from npas_bench.global_state.keeping import kept
from npas_bench.methods import Method
from npas_bench.methods.full import Full
from npas_bench.network import PlainNetwork
from npas_bench.runner.cluster.executor import _Running, _Schedule
from npas_bench.runner.cluster.pool import PoolWorker
from npas_bench.runner.cluster.slots import Slot
from npas_bench.runner.cluster.worker import Answer
from npas_bench.runner.containment import Traces, TraceTeller, contained_cell, contained_here
from npas_bench.runner.executors import InlineExecutor, Listener
from npas_bench.runner.work import Attempt, Outcome, Work
from npas_bench.tasks.classification.digits import Digits
from npas_bench.testing.methods import MethodConformance

RECIPE = Digits().recipes("wrn-10-1")["short"].derive(epochs=1)


def cell(method="full", seed=0):
    budget = 77_562 if method == "full" else 5_000
    return Cell("digits", 1, "wrn-10-1", method, 1, {}, budget, RECIPE, seed)


@pytest.fixture
def install(monkeypatch):
    """Puts a method in the place of `full`."""

    def put(cls):
        load = plugins.Registry.load

        def found(registry, name):
            return cls if registry is plugins.methods and name == "full" else load(registry, name)

        monkeypatch.setattr(plugins.Registry, "load", found)
        return cls

    return put


class Collecting(Listener):
    """Starts everything, and keeps what became of it."""

    def __init__(self, folder):
        self.folder = folder
        self.outcomes = []

    def started(self, work):
        return Attempt(work, f"t{len(self.outcomes)}", self.folder / str(len(self.outcomes)))

    def finished(self, attempt, outcome):
        self.outcomes.append(outcome)

    def dropped(self, attempt):
        self.outcomes.append(None)

    def progressed(self, attempt, report):
        pass

    def retried(self, attempt, ended):
        pass

    def unwanted(self):
        return set()


def run(folder, *cells):
    listener = Collecting(folder)
    InlineExecutor().run([Work(one, Digits().source(), "cpu") for one in cells], listener)
    return listener.outcomes


def turn_everything():
    torch.backends.mkldnn.enabled = False
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    functional.cross_entropy = lambda *arguments, **options: torch.zeros((), requires_grad=True)
    torch.Tensor.relu_ = lambda self: self
    os.environ["OMP_DYNAMIC"] = "TRUE"


@pytest.mark.parametrize("when", ["build", "options", "forward"])
def test_what_a_plugin_turns_changes_no_later_cell_of_another_method(tmp_path, install, caplog, when):
    class Sly(Full):
        def __init__(self, options):
            super().__init__(options)
            if when == "options":
                turn_everything()

        def build(self, problem):
            if when == "build":
                turn_everything()
            network = super().build(problem)
            if when == "forward":
                network.register_forward_pre_hook(lambda *_: turn_everything())
            return network

    (expected,) = run(tmp_path / "alone", cell("reduced"))
    install(Sly)
    _, after = run(tmp_path / "after", cell(), cell("reduced"))
    assert after.metrics == expected.metrics
    assert [entry["loss"] for entry in after.history] == [entry["loss"] for entry in expected.history]
    assert len(caplog.messages) == 1
    assert "method 'full' (" in caplog.text
    assert "torch.backends.mkldnn.enabled" in caplog.text
    assert "torch.nn.functional.cross_entropy" in caplog.text


def test_a_plugin_that_fails_or_is_stopped_leaves_nothing_behind_either(tmp_path, install):
    class Failing(Full):
        def build(self, problem):
            turn_everything()
            raise UnsupportedBudget("no") if problem.seed else RuntimeError

    install(Failing)
    with kept() as changes:
        run(tmp_path, cell())
        with pytest.raises(KeyboardInterrupt), contained_cell(cell()):
            turn_everything()
            raise KeyboardInterrupt
    assert not changes


def ending(error):
    class Ending(Full):
        whole = False

        def build(self, problem):
            raise error

    return Ending


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError("over")], ids=["exit", "cancelled"])
def test_a_cell_whose_plugin_ends_the_program_has_failed_by_its_name(tmp_path, install, error):
    install(ending(error))
    first, second = run(tmp_path, cell(), cell(seed=1))
    assert first.state == second.state == "failed"
    said = f"tried to end the program: {type(error).__name__}: {error} ("
    assert first.message.startswith("PluginError: method 'full' (")
    assert said in first.message
    assert "Traceback" in first.detail


def test_ctrl_c_and_what_a_signal_raises_still_end_a_run(tmp_path, install):
    def leave(number, frame):
        raise SystemExit(143)

    class Slow(Full):
        def build(self, problem):
            os.kill(os.getpid(), signal.SIGUSR1)
            raise AssertionError

    class Polite(Full):
        def build(self, problem):
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                sys.exit(1)

    install(ending(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", cell())
    install(Polite)
    with pytest.raises(SystemExit):
        run(tmp_path / "c", cell())
    install(Slow)
    before = signal.signal(signal.SIGUSR1, leave)
    try:
        with pytest.raises(SystemExit):
            run(tmp_path / "b", cell())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_forecast_goes_on_where_a_plugin_ends_the_program(install):
    install(ending(SystemExit(0)))
    assert Demands().find("digits", "wrn-10-1", "full", {}, 20_000) is None


def test_the_same_change_is_warned_of_once_and_noted_each_time(tmp_path, install, caplog):
    class Sly(Full):
        def build(self, problem):
            torch.set_grad_enabled(False)
            raise UnsupportedBudget("nothing")

    install(Sly)
    caplog.set_level(logging.INFO, "npas_bench.runner.containment")
    run(tmp_path, *(cell(seed=seed) for seed in range(3)))
    levels = [record.levelno for record in caplog.records if "torch's grad mode" in record.getMessage()]
    assert levels == [logging.WARNING, logging.INFO, logging.INFO]


def test_a_run_ends_with_the_plugins_name_where_something_cannot_be_set_back(tmp_path, install):
    library = torch.library.Library("aten", "IMPL")

    class Deep(Full):
        def build(self, problem):
            library.impl("asinh", lambda x: x, "AutogradCUDA")
            raise UnsupportedBudget("nothing")

    install(Deep)
    try:
        assert len(run(tmp_path / "last", cell())) == 1
        library._destroy()
        library = torch.library.Library("aten", "IMPL")
        with pytest.raises(NpasBenchError, match=r"method 'full' \(.*Deep\) changed .*aten/asinh.*--executor ray"):
            run(tmp_path / "more", cell(), cell(seed=1))
    finally:
        library._destroy()


def test_what_a_plugin_draws_from_shared_generators_depends_on_its_cell_alone(tmp_path, install):
    drawn = []

    class Drawing(Full):
        def build(self, problem):
            drawn.append((random.gauss(), np.random.rand()))
            raise UnsupportedBudget("nothing")

    install(Drawing)
    run(tmp_path, cell(), cell(seed=1), cell())
    assert drawn[0] == drawn[2] != drawn[1]


def test_previews_and_forecasts_leave_nothing_behind(install, caplog):
    class Sly(Method):
        name = "full"

        def build(self, problem):
            turn_everything()
            return PlainNetwork(problem.module())

        def preview(self, problem):
            turn_everything()

    install(Sly)
    with kept() as changes:
        with contained_here("digits", "wrn-10-1", "full"):
            Sly({}).preview(None)
        Demands().find("digits", "wrn-10-1", "full", {}, 20_000)
    assert not changes
    assert len(caplog.messages) == 1


def test_the_conformance_suite_names_what_a_method_changes():
    class Sly(Full):
        def build(self, problem):
            torch.set_default_dtype(torch.float64)
            return super().build(problem)

    class Suite(MethodConformance):
        method = Sly
        architectures = ("wrn-10-1",)

    with kept(), pytest.raises(AssertionError, match=r"full changed .*torch's default dtype"):
        Suite().test_global_state_is_left_as_it_was()


def test_cells_of_built_in_code_leave_the_global_state_as_it_was(tmp_path):
    with kept() as changes:
        run(tmp_path, cell(), cell("reduced"), cell("ssn"))
    assert not changes


@pytest.mark.parametrize(
    ("traces", "replaced"),
    [
        (Traces(), False),
        (Traces("method 'a' (b:C)", "the working directory"), False),
        (Traces("method 'a' (b:C)", "torch's default dtype", computing=True), True),
        (Traces("method 'a' (b:C)", "torch's inference mode", lost="torch's inference mode", computing=True), True),
    ],
    ids=["nothing", "the process", "a switch", "lost"],
)
def test_a_worker_of_ray_is_replaced_after_a_cell_that_changed_what_results_depend_on(tmp_path, traces, replaced):
    slot = Slot("node", "node", threads=1)
    worker = PoolWorker(slot, 1, actor=None)
    worker.attempt = Attempt(Work(cell(), Digits().source(), "cpu"), "t", tmp_path)
    answer = Answer(Outcome(state="done").model_dump_json(), 0, traces)
    pool, discarded = SimpleNamespace(), []
    pool.wait = lambda seconds: [(worker, answer)]
    pool.free = lambda worker, resident: None
    pool.discard = discarded.append
    schedule = object.__new__(_Schedule)
    schedule._pool, schedule._listener, schedule._teller = pool, Collecting(tmp_path), TraceTeller()
    schedule._running = {cell().identity: _Running(worker.attempt, worker, beside=False)}
    schedule._await()
    assert discarded == [worker] * replaced
    assert len(schedule._listener.outcomes) == 1
