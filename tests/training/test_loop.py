from itertools import chain

import pytest
import torch
from torch import nn

from npas_bench.cells.cell import Cell
from npas_bench.errors import Diverged
from npas_bench.methods.ssn import SSN
from npas_bench.network import PlainNetwork
from npas_bench.recipe import ImageRecipe
from npas_bench.runner.build import problem_of
from npas_bench.seeding import seeded
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import CheckpointFolder, hand_over
from npas_bench.training.loop import TrainingContext, cpu_threads
from npas_bench.training.stages import Fit, run_stages

CPU = torch.device("cpu")


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Dropout(), nn.Linear(30, 10))

    def forward(self, x):
        return self.layers(x)


def recipe(**fields):
    return ImageRecipe(**{"epochs": 3, "batch_size": 100, "learning_rate": 0.05, "crop": 1} | fields)


def network(seed=0):
    with seeded("test", seed):
        return PlainNetwork(WithDropout())


def context(**fields):
    task = Digits()
    return TrainingContext(task, task.data("train"), recipe(**fields), 0, "identity", "source", CPU)


def train(net, given, checkpoints, on_epoch=lambda _: None):
    return run_stages((Fit(),), net, given._replace(checkpoints=checkpoints, on_epoch=on_epoch))


def folder(tmp_path, token="t", name="run"):
    return CheckpointFolder(tmp_path / name, "identity", "source", token)


def stopped_after(epoch):
    def on_epoch(report):
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return on_epoch


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interrupted_training_goes_on_to_the_same_weights_bit_for_bit(tmp_path, stop):
    whole = network()
    undisturbed = train(whole, context(), folder(tmp_path, name="whole"))
    with pytest.raises(KeyboardInterrupt):
        train(network(), context(), folder(tmp_path, "first"), stopped_after(stop))
    hand_over(tmp_path / "run", "first", "second")
    torch.manual_seed(99)  # what ran before must not matter
    resumed, epochs = network(seed=1), []
    result = train(resumed, context(), folder(tmp_path, "second"), lambda report: epochs.append(report.epoch))
    assert epochs == list(range(stop + 1, 4))
    assert [r.loss for r in result.history] == [r.loss for r in undisturbed.history]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_training_leaves_the_callers_generator_and_threads_alone(tmp_path):
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    train(network(), context(threads=threads + 1, epochs=1), folder(tmp_path))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_the_recipes_threads_are_used():
    with cpu_threads(2):
        assert torch.get_num_threads() == 2


def test_the_loss_falls(tmp_path):
    history = train(network(), context(epochs=12, crop=0), folder(tmp_path)).history
    assert history[-1].loss < 0.7 * history[0].loss


def test_a_diverging_training_ends_with_its_place_and_history(tmp_path):
    with pytest.raises(Diverged, match=r"diverged at epoch \d+, step \d+") as caught:
        train(network(), context(learning_rate=1e20, epochs=9), folder(tmp_path))
    assert str(len(caught.value.history) + 1) in str(caught.value)


def test_coefficients_are_not_decayed_and_the_rest_is(tmp_path):
    from npas_bench.training.optimisers import make_optimiser

    task = Digits()
    cell = Cell("digits", 1, "wrn-10-1", "ssn", 1, {}, 7756, recipe(), 0)
    net = SSN().build(problem_of(cell, task))
    groups = make_optimiser(net, recipe(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in net.named_parameters()}
    free = {names[id(p)].split(".")[3] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert free == {"coefficients"}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_every_example_is_seen_once_an_epoch_in_an_order_fixed_by_task_and_seed(tmp_path):
    seen = []

    class Watching(Digits):
        def augment(self, batch, recipe, generator):
            seen.append(batch.labels.tolist())
            return super().augment(batch, recipe, generator)

    for attempt in range(2):
        given = context(epochs=2)._replace(task=Watching(), identity=f"cell {attempt}")
        train(network(seed=attempt), given, None)
    steps = len(seen) // 4
    first, second, again, _ = (list(chain(*seen[i * steps : (i + 1) * steps])) for i in range(4))
    assert sorted(first) == sorted(Digits().data("train").labels.tolist())
    assert first != second
    assert first == again


def test_a_loss_is_told_how_far_the_training_is(tmp_path):
    told = []

    class Annealing(Digits):
        def loss(self, network, batch, step):
            told.append(step)
            return super().loss(network, batch, step) * (1 - step.progress)

    train(network(), context(epochs=2)._replace(task=Annealing()), None)
    steps = len(told) // 2
    assert {step.recipe for step in told} == {recipe(epochs=2)}
    assert [step.epoch for step in told] == [0] * steps + [1] * steps
    assert [step.iteration for step in told] == list(range(2 * steps))
    assert [step.progress for step in told] == pytest.approx([i / (2 * steps) for i in range(2 * steps)])


class Watched(Digits):
    """Keeps the batches that networks are trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def augment(self, batch, recipe, generator):
        changed = super().augment(batch, recipe, generator)
        self.seen.append(changed)
        return changed


def trained_on(folder, seed=0, **fields):
    """The batches that a cell is trained on: their pixels and labels."""
    task = Watched()
    given = context(epochs=2, crop=2, cutout=2, **fields)._replace(task=task, seed=seed, identity=folder.name)
    train(network(), given, CheckpointFolder(folder, folder.name, "source", "t"))
    return torch.cat([batch.pixels for batch in task.seen]), torch.cat([batch.labels for batch in task.seen])


@pytest.mark.parametrize("parts", [1, 2])
def test_all_cells_of_a_seed_are_trained_on_the_same_pictures_in_the_same_order(tmp_path, parts):
    one, another, other_seed = (
        trained_on(tmp_path / name, seed, parts=parts) for name, seed in (("one", 0), ("another", 0), ("third", 1))
    )
    assert all(map(torch.equal, one, another))
    assert not torch.equal(one[0], other_seed[0])
    # Both epochs hold all images, changed otherwise.
    assert not torch.equal(*one[0].chunk(2))
