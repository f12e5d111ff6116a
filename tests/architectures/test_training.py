"""Every architecture trains: a hundred steps on real images, at a stated batch and resolution."""

import statistics
from dataclasses import replace

import pytest
import torch

from npas_bench import plugins
from npas_bench.methods import Problem
from npas_bench.recipe import ImageRecipe
from npas_bench.seeding import generator, seeded
from npas_bench.training.loop import TrainingContext, cpu_threads, train_epoch
from npas_bench.training.optimisers import make_optimiser

STEPS = 100
# Architecture, task, images a step. CIFAR's are 32 x 32, Tiny ImageNet's 64 x 64.
CASES = [
    ("wrn-16-2", "cifar10", 32),
    ("wrn-28-10", "cifar10", 16),
    ("resnet-56", "cifar10", 32),
    ("resnet-10", "cifar10", 16),
    ("resnet-18", "cifar10", 16),
    ("resnet-34", "cifar10", 8),
    ("resnet-50", "cifar10", 8),
    ("wrn-50-2", "cifar10", 8),
    ("densenet-bc-40-12", "cifar10", 16),
    ("densenet-121", "cifar10", 8),
    ("efficientnet-b0", "cifar10", 128),
    ("efficientnet-nd", "cifar10", 32),
    ("resnet-18", "image-folder:tiny-imagenet-100c", 32),
]


def losses(name, task_name, batch):
    """The loss of each step."""
    task, seen = plugins.task(task_name), []
    whole = task.data("train")
    chosen = torch.randperm(len(whole), generator=generator("test"))[: STEPS * batch]
    examples = replace(whole, pixels=whole.pixels[chosen], labels=whole.labels[chosen])

    class Listening(type(task)):
        def loss(self, network, batch, step):
            loss = super().loss(network, batch, step)
            seen.append(loss.item())
            return loss

    listening = object.__new__(Listening)
    listening.__dict__.update(task.__dict__)
    architecture = plugins.architecture(name)
    recipe = ImageRecipe(
        epochs=1, batch_size=batch, learning_rate=0.02, schedule="one-cycle", weight_decay=5e-4, flip=True
    )
    with seeded("test"):
        full = plugins.methods.load("full")({})
        network = full.build(Problem(architecture, task.signature, architecture.count(task.signature)))
    context = TrainingContext(listening, examples, recipe, 0, "identity", "source", torch.device("cpu"))
    with cpu_threads(1):
        train_epoch(network, context, make_optimiser(network, recipe), 0, warm_up=True)
    return seen


def falls(seen):
    first, last = statistics.mean(seen[:10]), statistics.mean(seen[-20:])
    print(f"{len(seen)} steps, loss {first:.3f} -> {last:.3f}")  # noqa: T201 (with -s, the figures)
    assert len(seen) == STEPS
    assert last < 0.95 * first


@pytest.mark.slow
def test_the_smallest_trains(real_data):
    falls(losses("resnet-8", "cifar10", 16))


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "task", "batch"), CASES)
def test_the_loss_falls_in_a_hundred_steps(real_data, name, task, batch):
    falls(losses(name, task, batch))
