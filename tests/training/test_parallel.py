"""Several processes that train one network, against one that computes the same parts of a batch in turn."""

from functools import partial

import pytest
import torch
from torch import distributed, multiprocessing

from npas_bench import plugins
from npas_bench.methods import Problem
from npas_bench.network import GeneratedNetwork
from npas_bench.recipe import ImageRecipe
from npas_bench.seeding import seeded
from npas_bench.tasks.classification.base import Images
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import CheckpointFolder
from npas_bench.training.loop import TrainingContext, cpu_threads
from npas_bench.training.parallel import ALONE, Processes, WrappedNetwork
from npas_bench.training.stages import Fit, run_stages

CPU = torch.device("cpu")
# 1,201 examples: 20 whole batches, and one example that is no two parts.
RECIPE = ImageRecipe(epochs=1, batch_size=60, parts=2, learning_rate=0.05, crop=1, weight_decay=1e-3, clip=1.0)


class Precise(Digits):
    """Digits in double precision."""

    def augment(self, batch, recipe, generator):
        batch = super().augment(batch, recipe, generator)
        return Images(batch.pixels.double(), batch.labels)

    def loss(self, network, batch, step):
        return torch.nn.functional.cross_entropy(network(batch.pixels), batch.labels)


def build(method, options, regenerate):
    task = Precise()
    architecture = plugins.architecture("wrn-10-1")
    made = plugins.methods.load(method)(options)
    size = architecture.size(task.signature)
    with seeded("test"):
        network = made.build(Problem(architecture, task.signature, size if made.whole else size // 2, seed=3)).double()
    if isinstance(network, GeneratedNetwork):
        network.regenerate_in_backward = regenerate
    return network


def fit(folder, method, options, regenerate, processes, recipe):
    network = build(method, options, regenerate)
    context = TrainingContext(Precise(), Digits().data("train"), recipe, 0, "identity", "source", CPU)
    checkpoints = CheckpointFolder(folder, "identity", "source", "t")
    with cpu_threads(1):
        trained = run_stages((Fit(),), network, context._replace(processes=processes, checkpoints=checkpoints))
    return network.state_dict(), trained.history


CASES = [
    ("full", {}, False),
    ("ssn", {}, False),
    ("ssn", {}, True),
    ("superweights", {"clustering": "single"}, False),
    ("superweights", {"clustering": "single"}, True),
]
# Only superweights change between epochs.
TRAINED = [(case, epochs) for case in CASES for epochs in ((1, 2) if case[0] == "superweights" else (1,))]


def take_part(rank, folder):
    """Train every case as one of two processes, which are started only once: each has to import PyTorch."""
    distributed.init_process_group("gloo", init_method=(folder / "meet").as_uri(), rank=rank, world_size=2)
    for number, (case, epochs) in enumerate(TRAINED):
        recipe = RECIPE.derive(epochs=epochs)
        parameters, history = fit(folder / f"run-{number}", *case, Processes(rank, 2), recipe)
        torch.save((parameters, history[-1].loss), folder / f"{number}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_what_one_gets_from_the_parts_in_turn(tmp_path):
    """After 20 steps, and after 40 with a refinement in between, which looks at gradients of both.

    Parameters, and running statistics of norms.
    """
    multiprocessing.spawn(take_part, (tmp_path,), nprocs=2)
    for number, (case, epochs) in enumerate(TRAINED):
        folder = tmp_path / f"alone-{number}"
        folder.mkdir()
        alone, history = fit(folder, *case, ALONE, RECIPE.derive(epochs=epochs))
        start = build(*case).state_dict()
        for rank in range(2):
            together, loss = torch.load(tmp_path / f"{number}-{rank}.pt")
            assert together.keys() == alone.keys(), case
            for name, parameter in alone.items():
                torch.testing.assert_close(
                    together[name],
                    parameter,
                    rtol=1e-8,
                    atol=1e-8,
                    msg=lambda said, what=(case, epochs, name): f"{what}: {said}",
                )
            assert loss == pytest.approx(history[-1].loss, rel=1e-10), case
        moved = [name for name in alone.keys() & start.keys() if not torch.equal(alone[name], start[name])]
        assert sorted(moved) == sorted(alone.keys() & start.keys()), case


def test_parts_have_draws_of_their_own_and_every_example_once():
    seen = []

    class Watching(Precise):
        def augment(self, batch, recipe, generator):
            seen.append((batch.labels.tolist(), generator.initial_seed()))
            return super().augment(batch, recipe, generator)

    network = build("full", {}, False)
    context = TrainingContext(Watching(), Digits().data("train"), RECIPE, 0, "identity", "source", CPU)
    run_stages((Fit(),), network, context)
    assert [len(labels) for labels, _ in seen] == [30] * 40
    assert len({seed for _, seed in seen}) == 40


@pytest.mark.parametrize("case", [("full", {}, False), ("ssn", {}, False), ("ssn", {}, True)], ids=str)
def test_a_compiled_network_computes_the_same(monkeypatch, case):
    """Captured as graphs, but run as they are: a compiler would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    x = Digits().data("train").batch(torch.arange(16)).pixels.double()
    gradients = []
    for compiled in (False, True):
        network = build(*case)
        out = WrappedNetwork(network, compiled=compiled).module(x)
        out.square().mean().backward()
        gradients.append([out, *(p.grad for p in network.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
