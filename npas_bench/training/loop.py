"""The training loop: a network, a task, a recipe, to the last epoch, from wherever a checkpoint left it.

Every epoch draws its order, its augmentation and whatever modules draw themselves from seeds derived from
the epoch's number, so that an interrupted training goes on to the same result with no generator state stored.
"""

from __future__ import annotations

import math
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

from npas_bench.budget import Role
from npas_bench.errors import Diverged
from npas_bench.network import state_tensors
from npas_bench.seeding import generator, seeded
from npas_bench.training.checkpoint import Checkpoint
from npas_bench.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npas_bench.generation.engine import Replaced
    from npas_bench.network import Network
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Task
    from npas_bench.training.checkpoint import CheckpointFolder

# Steps of an attempt's first epoch that are left out of timings, where there are more.
_WARM_UP_STEPS = 5


class Training(NamedTuple):
    """What is trained, on what, how.

    Attributes:
        network: changed in place.
        task: gives loss and augmentation.
        examples: the training split, on the device.
        recipe: how.
        seed: the cell's seed: with the task it fixes order and augmentation, for every method alike.
        identity: of the cell: fixes what modules draw while training (dropout).
        source: digest of the data.
        device: where the network is.
        search_seconds: that the method's search took before.
    """

    network: Network
    task: Task
    examples: Examples
    recipe: Recipe
    seed: int
    identity: str
    source: str
    device: torch.device
    search_seconds: float = 0.0


class EpochReport(NamedTuple):
    """One epoch, as it goes into a run's history.

    Attributes:
        epoch: from 1.
        loss: mean training loss over the epoch's examples.
        learning_rate: of the last step.
        seconds: that the epoch took.
        seconds_per_step: median, warm-up left out.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_per_step: float


class Trained(NamedTuple):
    """A finished training.

    Attributes:
        history: one report per epoch, those before an interruption included.
        before: the tensors that only count if training changes them, as they were before training.
    """

    history: list[EpochReport]
    before: dict[str, torch.Tensor]


def train(training: Training, checkpoints: CheckpointFolder, on_epoch: Callable[[EpochReport], None]) -> Trained:
    """Train to the recipe's last epoch, saving a checkpoint after each.

    Args:
        training: what, on what and how; its network is changed in place.
        checkpoints: where to go on from and to save to.
        on_epoch: told of every epoch that this call trains, once its checkpoint is saved.

    Raises:
        Diverged: if the loss becomes NaN or infinite.
    """
    network, recipe = training.network, training.recipe
    optimiser = make_optimiser(network, recipe)
    before = {name: tensor.cpu().clone() for name, tensor in state_tensors(network).items()}
    history: list[EpochReport] = []
    last = checkpoints.latest()
    if last is not None:
        network.load_state_dict(last.network)
        tensors = state_tensors(network)
        for name, value in last.state.items():
            tensors[name].copy_(value)
        optimiser.load_state_dict(last.optimiser)
        history = [EpochReport(**entry) for entry in last.history]  # type: ignore[arg-type]
        before = last.before
    start = last.epoch if last is not None else 0
    with cpu_threads(recipe.threads):
        for epoch in range(start, recipe.epochs):
            network.before_epoch(epoch, recipe.epochs)
            try:
                report = train_epoch(training, optimiser, epoch, warm_up=epoch == start)
            except NotFinite as loss:
                raise Diverged(f"at epoch {epoch + 1}, step {loss.step}", [e._asdict() for e in history]) from None
            for replaced in network.after_epoch(epoch, recipe.epochs):
                replace_parameter(optimiser, replaced)
            history.append(report)
            checkpoints.save(_checkpoint(training, optimiser, before, history))
            on_epoch(report)
    if start == recipe.epochs:
        # Nothing was left to train, but what an attempt is counted by is its own file.
        checkpoints.save(_checkpoint(training, optimiser, before, history))
    return Trained(history, before)


class NotFinite(Exception):
    """The loss became NaN or infinite at a step, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(step)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute on `count` CPU threads inside the block: another number gives other sums."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def train_epoch(training: Training, optimiser: torch.optim.Optimizer, epoch: int, *, warm_up: bool) -> EpochReport:
    """Train one epoch, counted from 0, the first steps left out of timings where it is an attempt's first.

    Raises:
        NotFinite: if the loss becomes NaN or infinite.
    """
    task, recipe, device = training.task, training.recipe, training.device
    count = len(training.examples)
    steps = math.ceil(count / recipe.batch_size)
    order = torch.randperm(count, generator=generator("order", task.name, training.seed, epoch))
    draws = generator("augmentation", task.name, training.seed, epoch)
    bf16 = recipe.precision == "bf16"
    training.network.train()
    rate, seconds = 0.0, []
    total = torch.zeros((), dtype=torch.float64, device=device)
    begun = time.perf_counter()
    with seeded("modules", training.identity, epoch):
        for step, indices in enumerate(torch.split(order, recipe.batch_size)):
            step_begun = time.perf_counter()
            rate = learning_rate(recipe, epoch * steps + step, recipe.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = task.augment(training.examples.batch(indices), recipe, draws)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = task.loss(training.network, batch, recipe)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(training.network.parameters(), recipe.clip)
            optimiser.step()
            total += loss.detach().double() * len(indices)
            # On a GPU reading the loss waits for it; there it is read once an epoch.
            if device.type == "cpu" and not math.isfinite(loss.item()):
                raise NotFinite(step + 1)
            seconds.append(time.perf_counter() - step_begun)
    mean_loss = total.item() / count
    if not math.isfinite(mean_loss):
        raise NotFinite(steps)
    elapsed = time.perf_counter() - begun
    steady = seconds[_WARM_UP_STEPS:] if warm_up and len(seconds) > _WARM_UP_STEPS else seconds
    # A GPU runs behind the host: its steps are timed together, the wait at the epoch's end included.
    per_step = statistics.median(steady) if device.type == "cpu" else elapsed / steps
    return EpochReport(epoch + 1, mean_loss, rate, elapsed, per_step)


def make_optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; coefficients and layer embeddings do not decay."""
    roles = network.roles()
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    free = [p for name, p in trained if roles.get(name) is Role.COEFFICIENTS]
    decayed = [p for name, p in trained if roles.get(name) is not Role.COEFFICIENTS]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        # Decay would pull layers' coefficients and embeddings together towards zero.
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
    )


def replace_parameter(optimiser: torch.optim.Optimizer, replaced: Replaced) -> None:
    """Let an optimiser go on with a parameter's successor, each of its rows with the momentum of its origin."""
    for group in optimiser.param_groups:
        group["params"] = [replaced.new if p is replaced.old else p for p in group["params"]]
    state = optimiser.state.pop(replaced.old, {})
    for key, value in state.items():
        follows = isinstance(value, torch.Tensor) and value.shape == replaced.old.shape
        optimiser.state[replaced.new][key] = value[replaced.rows].clone() if follows else value


def _checkpoint(
    training: Training,
    optimiser: torch.optim.Optimizer,
    before: dict[str, torch.Tensor],
    history: list[EpochReport],
) -> Checkpoint:
    network = training.network.state_dict()
    return Checkpoint(
        identity=training.identity,
        source=training.source,
        epoch=len(history),
        network=network,
        state={name: tensor for name, tensor in state_tensors(training.network).items() if name not in network},
        optimiser=optimiser.state_dict(),
        before=before,
        structure=training.network.structure(),
        search_seconds=training.search_seconds,
        history=[report._asdict() for report in history],
    )
