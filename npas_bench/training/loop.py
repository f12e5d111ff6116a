"""The training loop: a network, a task, a recipe, to the last epoch, from wherever a checkpoint left it.

Every epoch draws its order, its augmentation and whatever modules draw themselves from seeds derived from
the epoch's number, so that an interrupted training goes on to the same result with no generator state stored.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench.errors import Diverged, NpasBenchError
from npas_bench.network import state_tensors
from npas_bench.seeding import derive_seed, generator, seeded
from npas_bench.tasks.base import Part, Step
from npas_bench.training.checkpoint import Checkpoint
from npas_bench.training.optimisers import make_optimiser, replace_parameter, set_learning_rate
from npas_bench.training.parallel import ALONE, Processes, WrappedNetwork
from npas_bench.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        processes: that train it together; the recipe's `parts` are a multiple of their number.
        compiled: whether torch compiles the network.
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
    processes: Processes = ALONE
    compiled: bool = False


class EpochReport(NamedTuple):
    """One epoch, as it goes into a run's history.

    Attributes:
        epoch: from 1.
        loss: mean training loss over the epoch's examples.
        learning_rate: of the last step.
        seconds: that the epoch took.
        seconds_per_step: median, warm-up left out.
        parameters: trainable scalars after it, where the network changed them at its end; None where not.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_per_step: float
    parameters: int | None = None

    def entry(self) -> dict[str, float]:
        """As it goes into a run's history: what is None is left out."""
        return {name: value for name, value in self._asdict().items() if value is not None}


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
    wrapped = WrappedNetwork(network, training.processes, compiled=training.compiled)
    with cpu_threads(recipe.threads):
        for epoch in range(start, recipe.epochs):
            network.before_epoch(epoch, recipe.epochs)
            try:
                report = train_epoch(training, optimiser, epoch, warm_up=epoch == start, wrapped=wrapped)
            except NotFinite as loss:
                raise Diverged(f"at epoch {epoch + 1}, step {loss.step}", [e.entry() for e in history]) from None
            for summed in network.epoch_sums():
                training.processes.sum(summed)
            replacements = network.after_epoch(epoch, recipe.epochs)
            for replaced in replacements:
                replace_parameter(optimiser, replaced)
            if replacements:
                wrapped.renew()
                report = report._replace(parameters=sum(network.count().values()))
            history.append(report)
            if training.processes.rank == 0:
                checkpoints.save(_checkpoint(training, optimiser, before, history))
            on_epoch(report)
    if start == recipe.epochs and training.processes.rank == 0:
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


def train_epoch(
    training: Training,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    *,
    warm_up: bool,
    wrapped: WrappedNetwork | None = None,
) -> EpochReport:
    """Train one epoch, counted from 0, the first steps left out of timings where it is an attempt's first.

    Args:
        training: what, on what and how.
        optimiser: of the network's parameters.
        epoch: from 0.
        warm_up: whether it is an attempt's first.
        wrapped: runs the network; left out, it runs as it is.

    Raises:
        NotFinite: if the loss becomes NaN or infinite.
    """
    wrapped = wrapped or WrappedNetwork(training.network)
    task, recipe, device = training.task, training.recipe, training.device
    steps = _steps(training, epoch)
    batches = iter(task.batches(training.examples, [part for step in steps for part in step.parts], recipe))
    losses = _Losses(training)
    training.network.train()
    rate, seconds = 0.0, []
    begun = time.perf_counter()
    with seeded("modules", training.identity, epoch):
        for number, step in enumerate(steps):
            step_begun = time.perf_counter()
            rate = learning_rate(recipe, epoch * len(steps) + number, recipe.epochs * len(steps))
            set_learning_rate(optimiser, rate)
            now = Step(recipe, epoch, epoch * len(steps) + number, (epoch + number / len(steps)) / recipe.epochs)
            optimiser.zero_grad(set_to_none=True)
            for place, part in enumerate(step.parts):
                batch = next(batches)
                if recipe.parts > 1:
                    # Whichever process computes a part, its modules draw the same.
                    torch.manual_seed(derive_seed("modules", training.identity, epoch, number, step.first + place))
                with wrapped.collecting(last=place == len(step.parts) - 1):
                    loss = _part_loss(training, wrapped, batch, now)
                    # Processes take the mean of their gradients, of which each shall be a share of the batch's.
                    weight = training.processes.count * len(part.indices) / step.size
                    (loss if weight == 1 else weight * loss).backward()  # type: ignore[no-untyped-call]
                losses.add(loss.detach(), len(part.indices), number + 1)
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(training.network.parameters(), recipe.clip)
            optimiser.step()
            wrapped.after_step(len(step.parts))
            seconds.append(time.perf_counter() - step_begun)
    mean_loss = losses.mean(sum(step.size for step in steps))
    elapsed = time.perf_counter() - begun
    steady = seconds[_WARM_UP_STEPS:] if warm_up and len(seconds) > _WARM_UP_STEPS else seconds
    # A GPU runs behind the host: its steps are timed together, the wait at the epoch's end included.
    per_step = statistics.median(steady) if device.type == "cpu" else elapsed / len(steps)
    return EpochReport(epoch + 1, mean_loss, rate, elapsed, per_step)


class _Step(NamedTuple):
    """A step of an epoch.

    Attributes:
        size: examples in its batch.
        parts: of the batch, those that this process computes.
        first: number of the first of these in the batch.
    """

    size: int
    parts: list[Part]
    first: int = 0


def _steps(training: Training, epoch: int) -> list[_Step]:
    """The steps of an epoch; a last batch that cannot be cut into the recipe's parts is left out."""
    task, recipe, count = training.task, training.recipe, len(training.examples)
    order = torch.randperm(count, generator=generator("order", task.name, training.seed, epoch))
    batches = [batch for batch in torch.split(order, recipe.batch_size) if len(batch) >= recipe.parts]
    if not batches:
        raise NpasBenchError(f"{count} examples cannot be cut into batches of {recipe.parts} parts")
    if recipe.parts == 1:
        # Batches draw from one generator in turn.
        draws = generator("augmentation", task.name, training.seed, epoch)
        return [_Step(len(batch), [Part(batch, draws)]) for batch in batches]
    steps = []
    for step, batch in enumerate(batches):
        # Parts are computed by several processes: each has a generator of its own.
        parts = [
            Part(indices, generator("augmentation", task.name, training.seed, epoch, step, number))
            for number, indices in enumerate(torch.tensor_split(batch, recipe.parts))
        ]
        mine = training.processes.share(parts)
        steps.append(_Step(len(batch), mine, training.processes.rank * len(mine)))
    return steps


def _part_loss(training: Training, wrapped: WrappedNetwork, batch: Any, step: Step) -> torch.Tensor:
    bf16 = training.recipe.precision == "bf16"
    with torch.autocast(training.device.type, torch.bfloat16, enabled=bf16):
        return training.task.loss(wrapped.module, batch, step)


class _Losses:
    """An epoch's losses, and the first step, counted from 1, whose was not finite."""

    def __init__(self, training: Training) -> None:
        device = training.device
        self._processes = training.processes
        # On a GPU reading a loss waits for it, and a process that stops lets the others wait for ever: there the
        # losses are looked at when the epoch is over.
        self._at_once = device.type == "cpu" and training.processes.count == 1
        self._total = torch.zeros((), dtype=torch.float64, device=device)
        self._broken = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: torch.Tensor, examples: int, step: int) -> None:
        self._total += loss.double() * examples
        if not self._at_once:
            self._broken = torch.where((self._broken == 0) & ~loss.isfinite(), step, self._broken)
        elif not math.isfinite(loss.item()):
            raise NotFinite(step)

    def mean(self, examples: int) -> float:
        mean = self._processes.sum(self._total).item() / examples
        if not math.isfinite(mean):
            # Of the process whose loss broke first: the others' follow it.
            raise NotFinite(-self._processes.largest(-(int(self._broken.item()) or sys.maxsize)))
        return mean


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
        history=[report.entry() for report in history],
    )
