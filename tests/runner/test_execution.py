import dataclasses
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from npas_bench import plugins
from npas_bench.budget import Role
from npas_bench.cells.cell import Cell
from npas_bench.methods import Method
from npas_bench.network import PlainNetwork
from npas_bench.recipe import ImageRecipe
from npas_bench.runner.execution import execute
from npas_bench.runner.work import Attempt, Engine, Work
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import hand_over
from tests import processes

RECIPE = Digits().recipes("wrn-10-1")["short"].derive(epochs=1)


def cell(method="full", budget=77_562, **fields):
    return Cell("digits", 1, "wrn-10-1", method, 1, {}, budget, fields.pop("recipe", RECIPE), 0, **fields)


def run(tmp_path, chosen, token="t"):
    reports = []
    attempt = Attempt(Work(chosen, Digits().source(), "cpu"), token, tmp_path / "work" / chosen.identity[:8])
    return execute(attempt, reports.append), reports


@pytest.fixture
def method(monkeypatch):
    """Puts a method in the place of `full`."""

    def install(cls):
        load = plugins.Registry.load

        def found(registry, name):
            return cls if registry is plugins.methods and name == "full" else load(registry, name)

        monkeypatch.setattr(plugins.Registry, "load", found)

    return install


def test_a_done_run_carries_ledger_metrics_history_cost_and_provenance(tmp_path):
    outcome, reports = run(tmp_path, cell("ssn", 7_756))
    assert outcome.state == "done"
    assert outcome.ledger.total == 7_756
    assert outcome.ledger.reach == 1.0
    assert [m.name for m in outcome.metrics] == ["error@1", "error@5", "nll", "ece"]
    assert outcome.history == [report.entry() for report in reports]
    assert outcome.cost.seconds_per_epoch > outcome.cost.seconds_per_step > 0
    # Two for every multiply-add: 9 of the stem, three stages of one block, shortcuts, the classifier.
    stages = 64 * 9 * (16 + 2 * 16 * 16) + 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    stages += 4 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    assert outcome.cost.forward_flops == 2 * (stages + 64 * 10)
    assert outcome.cost.generation_flops > 0
    assert len(outcome.sharing) == 10
    assert outcome.versions["torch"] == torch.__version__
    assert "cores" in outcome.host


def test_the_same_cell_gives_the_same_numbers_whatever_ran_before(tmp_path):
    first, _ = run(tmp_path / "a", cell("ssn", 7_756))
    run(tmp_path / "b", cell("reduced", 5_000))
    torch.manual_seed(3)
    second, _ = run(tmp_path / "c", cell("ssn", 7_756))
    assert first.metrics == second.metrics
    assert [e["loss"] for e in first.history] == [e["loss"] for e in second.history]


def test_methods_see_the_same_data_but_their_own_initial_values(tmp_path):
    one, two = (run(tmp_path / str(seed), dataclasses.replace(cell(), seed=seed))[0] for seed in (0, 1))
    assert one.metrics != two.metrics


def test_a_budget_out_of_range_is_unsupported_with_its_bound(tmp_path):
    outcome, reports = run(tmp_path, cell("ssn", 1_000))
    assert (outcome.state, outcome.smallest, reports) == ("unsupported", 1_637, [])
    assert "smallest possible: 1,637" in outcome.message


def test_full_below_its_size_is_unsupported(tmp_path):
    outcome, _ = run(tmp_path, cell(budget=77_561))
    assert (outcome.state, outcome.smallest) == ("unsupported", 77_562)


def test_an_over_budget_network_is_refused_before_training(tmp_path, method):
    class Greedy(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(problem.module())

    method(Greedy)
    outcome, reports = run(tmp_path, cell(budget=77_561))
    assert outcome.state == "failed"
    assert "77,562 trainable parameters, 1 over its budget of 77,561" in outcome.message
    assert reports == []


class Remembering(nn.Module):
    """A network that hides what it learns in a buffer."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("memory", torch.zeros(5), persistent=False)

    def forward(self, x):
        if self.training:
            self.memory += 1
        return self.inner(x)


def test_state_that_training_changed_counts_against_the_budget(tmp_path, method):
    class Sly(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Remembering(problem.module()))

    method(Sly)
    outcome, reports = run(tmp_path, cell())
    assert outcome.state == "failed"
    assert len(reports) == 1
    assert "5 over its budget" in outcome.message
    within, _ = run(tmp_path / "more", cell(budget=77_567))
    assert (within.state, within.ledger.state, within.ledger.total) == ("done", 5, 77_567)


class Loose(nn.Module):
    """A network that changes something outside of its parameters and buffers while it trains."""

    def __init__(self, inner, make, change):
        super().__init__()
        self.inner, self.change = inner, change
        self.held = make()

    def forward(self, x):
        if self.training:
            self.change(self)
        return self.inner(x)


def _added(module):
    module.held += 1


LOOSE = {
    "a number": (lambda: 0.5, _added, "held"),
    "a tensor": (lambda: torch.zeros(5), _added, "held"),
    "a tensor to be trained": (lambda: torch.zeros(5, requires_grad=True), lambda m: m.held.data.add_(1), "held"),
    "an array": (lambda: np.zeros(3), _added, "held"),
    "a list of numbers": (lambda: [0.5, 1.0], lambda m: m.held.append(2.0), "held[2]"),
    "a dictionary of tensors": (lambda: {"a": torch.zeros(2)}, lambda m: m.held["a"].add_(1), "held['a']"),
    "an object's attribute": (lambda: SimpleNamespace(x=0.5), lambda m: vars(m.held).update(x=2.0), "held.x"),
    "an attribute that comes late": (lambda: None, lambda m: setattr(m, "late", torch.ones(4)), "late"),
    "a complex number": (lambda: 1j, _added, "held"),
}


@pytest.mark.parametrize(("make", "change", "named"), LOOSE.values(), ids=LOOSE)
def test_scalars_that_training_changes_outside_of_what_is_counted_end_the_run(tmp_path, method, make, change, named):
    class Sly(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Loose(problem.module(), make, change))

    method(Sly)
    outcome, reports = run(tmp_path, cell(recipe=RECIPE.derive(epochs=2)))
    assert outcome.state == "failed"
    # It is refused as soon as it shows, and not when all epochs are over.
    assert reports == []
    assert "method full: training changed" in outcome.message
    assert f"(architecture.{named}" in outcome.message


MEMORY, CONSTANTS = {}, {}


def test_a_global_that_training_changes_ends_the_run_and_one_that_is_filled_once_does_not(tmp_path, method):
    def remembering(module):
        MEMORY["x"] = MEMORY.get("x", torch.zeros(1000)) + 1

    def filling(module):
        CONSTANTS[len(CONSTANTS)] = torch.arange(len(CONSTANTS))

    for change, state in ((remembering, "failed"), (filling, "done")):

        class Sly(Method):
            name = "full"

            def build(self, problem):
                return PlainNetwork(Loose(problem.module(), lambda: None, change))  # noqa: B023

        method(Sly)
        outcome, _ = run(tmp_path / state, cell())
        assert outcome.state == state, outcome.message
        if state == "failed":
            assert "1,000 scalars outside of all parameters and buffers" in outcome.message
            assert "tests.runner.test_execution.MEMORY['x']" in outcome.message
    MEMORY.clear()


@pytest.mark.parametrize("held", [3, "text", [1, 2], torch.arange(3), 0.5, torch.ones(3)], ids=str)
def test_counters_and_numbers_that_stay_are_no_matter(tmp_path, method, held):
    def counting(module):
        module.steps = getattr(module, "steps", 0) + 1

    class Fair(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Loose(problem.module(), lambda: held, counting))

    method(Fair)
    outcome, _ = run(tmp_path, cell())
    assert outcome.state == "done", outcome.message


def test_what_follows_from_parameters_may_be_kept_in_attributes(tmp_path, method):
    def keeping(module):
        weight = next(module.inner.parameters())
        module.held, module.view = weight * 2, weight.detach().view(-1)

    class Caching(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Loose(problem.module(), lambda: None, keeping))

    method(Caching)
    outcome, _ = run(tmp_path, cell(recipe=RECIPE.derive(epochs=2)))
    assert outcome.state == "done", outcome.message


@pytest.mark.parametrize("name", plugins.methods.names())
def test_no_method_of_the_package_changes_what_nothing_counts(tmp_path, name):
    cls = plugins.methods.load(name)
    chosen = dataclasses.replace(cell(name, 77_562 if cls.whole else 70_000), method_version=cls.version)
    outcome, _ = run(tmp_path, chosen)
    assert outcome.state in ("done", "unsupported"), outcome.message


def test_state_outside_the_state_dict_survives_an_interruption(tmp_path, method):
    class Sly(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Remembering(problem.module()))

    def stop(report):
        if report.epoch == 1:
            raise KeyboardInterrupt

    method(Sly)
    chosen = cell(budget=77_567, recipe=RECIPE.derive(epochs=2))
    whole, _ = run(tmp_path / "whole", chosen)
    attempt = Attempt(Work(chosen, Digits().source(), "cpu"), "a", tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        execute(attempt, stop)
    hand_over(attempt.folder, "a", "b")
    resumed = execute(attempt._replace(token="b"), lambda _: None)  # noqa: S106
    assert resumed.metrics == whole.metrics
    assert resumed.ledger == whole.ledger


def test_state_made_while_training_counts(tmp_path, method):
    class Growing(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            if not hasattr(self, "late"):
                self.register_buffer("late", torch.zeros(3))
            return self.inner(x)

    class Late(Method):
        name = "full"

        def build(self, problem):
            return PlainNetwork(Growing(problem.module()))

    method(Late)
    outcome, _ = run(tmp_path, cell(budget=77_565))
    assert (outcome.state, outcome.ledger.state) == ("done", 3), outcome.detail


def test_a_store_with_dead_parameters_is_refused_unless_it_is_explained(tmp_path, method):
    from npas_bench.methods.ssn import SSN, GroupPlan, SSNAllocation
    from npas_bench.network import GeneratedNetwork

    class Wasteful(SSN):
        name = "full"
        why = None

        def build(self, problem):
            allocation = SSNAllocation([GroupPlan(problem.layers, 7_000, self.options.variant)], self.why)
            allocation.register_parameter("unread", nn.Parameter(torch.zeros(10)))
            allocation.role = lambda name: Role.STORE if name == "unread" else SSNAllocation.role(allocation, name)
            return GeneratedNetwork(problem.module(), problem.layers, allocation)

    method(Wasteful)
    outcome, reports = run(tmp_path, cell(budget=20_000))
    assert "0.1411 % of what method full trains reaches no layer's weight" in outcome.message
    assert reports == []
    Wasteful.why = "ten are for show"
    explained, _ = run(tmp_path, cell(budget=20_000))
    assert explained.state == "done", explained.message


def test_precision_is_the_recipes_in_training_and_evaluation(tmp_path):
    exact, _ = run(tmp_path / "a", cell())
    rough, _ = run(tmp_path / "b", cell(recipe=RECIPE.derive(precision="bf16")))
    assert rough.state == "done"
    assert rough.metrics != exact.metrics
    assert rough.history[0]["loss"] == pytest.approx(exact.history[0]["loss"], rel=0.1)


def test_a_checkpoint_that_does_not_hold_what_was_counted_is_refused(tmp_path, method):
    class Forgetful(PlainNetwork):
        def state_dict(self, *args, **kwargs):
            state = super().state_dict(*args, **kwargs)
            state["extra"] = torch.ones(3)
            return state

    class Odd(Method):
        name = "full"

        def build(self, problem):
            return Forgetful(problem.module())

    method(Odd)
    assert "its checkpoint holds 77,565 trained scalars" in run(tmp_path, cell())[0].message


def test_divergence_fails_the_run_and_keeps_its_history(tmp_path):
    outcome, _ = run(tmp_path, cell(recipe=RECIPE.derive(learning_rate=1e12, epochs=4, schedule="cosine")))
    assert outcome.state == "failed"
    assert outcome.message.startswith("diverged at epoch ")
    assert outcome.detail is None


def test_an_error_of_the_method_fails_the_run_with_its_traceback(tmp_path, method):
    class Broken(Method):
        name = "full"

        def build(self, problem):
            raise ZeroDivisionError("on purpose")

    method(Broken)
    outcome, _ = run(tmp_path, cell())
    assert outcome.message == "ZeroDivisionError: on purpose"
    assert "in build" in outcome.detail


def test_a_worker_that_sees_other_data_refuses(tmp_path):
    other = Digits().source()._replace(digest="0" * 64)
    outcome = execute(Attempt(Work(cell(), other, "cpu"), "t", tmp_path), lambda _: None)
    assert "differs here from the driver's" in outcome.message


def test_the_full_network_learns_the_digits(tmp_path):
    outcome, _ = run(tmp_path, cell(recipe=Digits().recipes("wrn-10-1")["default"]))
    assert outcome.metrics[0].value <= 2.0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."
        ),
        MemoryError(),
    ],
)
def test_a_batch_too_large_for_memory_fails_with_its_size_and_the_peak(tmp_path, monkeypatch, error):
    def loss(*_):
        raise error

    monkeypatch.setattr(Digits, "loss", loss)
    outcome, _ = run(tmp_path, cell())
    assert outcome.state == "failed"
    assert outcome.message.startswith("out of memory: a batch of 32 does not fit (peak ")
    assert "GiB on cpu" in outcome.message


def test_memory_that_cannot_be_had_is_known_by_torchs_own_words(tmp_path, monkeypatch):
    """The CPU allocator's message is torch's, and may change."""

    def loss(*_):
        return torch.empty(1 << 60).sum()

    monkeypatch.setattr(Digits, "loss", loss)
    outcome, _ = run(tmp_path, cell())
    assert outcome.message.startswith("out of memory: a batch of 32 does not fit (peak ")


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Digits, "loss", lambda *_: torch.zeros(2) @ torch.zeros(3))
    outcome, _ = run(tmp_path, cell())
    assert outcome.message.startswith("RuntimeError: ")


def test_examples_that_could_not_be_read_are_noted(tmp_path, monkeypatch):
    data = Digits.data
    monkeypatch.setattr(
        Digits, "data", lambda self, split: dataclasses.replace(data(self, split), unreadable=(f"{split}/a.png",))
    )
    outcome, _ = run(tmp_path, cell())
    assert outcome.state == "done"
    assert outcome.message == "2 unreadable examples were left out: train/a.png, test/a.png"


PARTS = RECIPE.derive(parts=2)


def together(tmp_path, chosen, processes=2, **switches):
    work = Work(chosen, Digits().source(), "cpu", Engine(processes=processes, **switches))
    reports = []
    return execute(Attempt(work, "t", tmp_path / "work"), reports.append), reports


@pytest.mark.slow
def test_two_processes_run_a_cell_and_its_search_to_what_one_gets(tmp_path):
    chosen = cell("superweights", 38_000, recipe=PARTS)
    chosen = dataclasses.replace(chosen, method_version=2)
    two, reports = together(tmp_path / "two", chosen, regenerate=True)
    one, _ = together(tmp_path / "one", chosen, processes=1)
    assert two.state == one.state == "done"
    assert [report.entry() for report in reports] == two.history
    assert two.structure == one.structure and two.structure["clusters"]
    assert two.history[0]["loss"] == pytest.approx(one.history[0]["loss"], rel=1e-4)
    assert two.ledger == one.ledger
    assert two.cost.search_seconds > 0
    assert two.cost.engine == ["regenerate", "processes=2"]
    for mine, theirs in zip(two.metrics, one.metrics, strict=True):
        assert mine.value == pytest.approx(theirs.value, rel=1e-3, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "method", "says"), [(PARTS, "nothing", "unknown method"), (RECIPE, "full", "--parts 2")]
)
def test_what_goes_wrong_in_several_processes_is_an_outcome(tmp_path, recipe, method, says):
    outcome, _ = together(tmp_path, cell(method, recipe=recipe))
    assert outcome.state == "failed"
    assert says in outcome.message


@pytest.mark.slow
def test_several_processes_read_images_ahead_and_join_in_naming_those_that_cannot_be_read(tmp_path, monkeypatch):
    from npas_bench.tasks.classification.files import ImageFiles

    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    for split, number, i in ((s, c, i) for s in ("train", "val") for c in range(2) for i in range(16)):
        place = tmp_path / "zoo" / split / str(number) / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 70, 3), dtype=np.uint8)).save(place)
    task = plugins.task("image-folder:zoo")
    size = plugins.architecture("resnet-10").count(task.signature) // 100
    recipe = ImageRecipe(epochs=1, batch_size=8, parts=2, learning_rate=0.01, zoom=0.5)
    chosen = Cell(task.name, 1, "resnet-10", "reduced", 1, {}, size, recipe, 0)
    work = Work(chosen, task.source(), "cpu", Engine(processes=2))
    outcome = execute(Attempt(work, "t", tmp_path / "work"), lambda _: None)
    assert outcome.state == "done", outcome
    assert ImageFiles is type(task.data("train"))


@pytest.mark.slow
def test_processes_end_with_the_one_that_waits_for_them(tmp_path):
    """Killed, it cannot end them itself."""
    arguments = ["run", "--task", "digits", "--method", "full", "--seed", "0", "--epochs", "1000", "--parts", "2"]
    arguments += ["--processes", "2", "--executor", "inline"]
    driver = processes.start(arguments, tmp_path, tmp_path / "log")

    def children():
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout
        lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
        return {int(pid) for pid, parent, words in lines if int(parent) == driver.pid and "spawn_main" in words}

    try:
        wait_for(lambda: len(children()) >= 2 and list(tmp_path.glob("runs.db.work/*/*.pt")))
        ranks = children()
    finally:
        driver.kill()
        driver.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_process_that_dies_fails_the_cell(tmp_path, monkeypatch):
    from npas_bench.runner import execution

    monkeypatch.setattr(execution, "_take_part", _die)
    outcome, _ = together(tmp_path, cell(recipe=PARTS))
    assert outcome.state == "failed"
    assert "one of 2 processes that train together died (exit code 7)" in outcome.message


def _die(attempt, on_epoch, processes):
    import os

    os._exit(7)
