"""The training loop: one epoch of a network on a task, by a recipe.

The order of the examples, their augmentation and what modules draw themselves follow from seeds that are derived from
the number of the epoch, so that an interrupted training goes on to the same result without stored generators.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench.errors import RecipeError
from npas_bench.seeding import derive_seed, generator, seeded
from npas_bench.tasks.base import Part, Step
from npas_bench.training.optimisers import set_learning_rate
from npas_bench.training.parallel import ALONE, Processes, WrappedNetwork
from npas_bench.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from npas_bench.network import Network
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Task
    from npas_bench.training.checkpoint import CheckpointFolder

# Steps of an attempt's first epoch that are left out of timings, where there are more.
_WARM_UP_STEPS = 5


class EpochReport(NamedTuple):
    """One epoch of a run's history.

    Attributes:
        epoch: the number of the epoch within its stage, from 1.
        loss: the mean training loss over the examples of the epoch.
        learning_rate: the learning rate of the last step.
        seconds: the seconds that the epoch took, validation included.
        seconds_per_step: the median over the steps, the first ones of an attempt left out.
        parameters: the number of trainable scalars after the epoch; None if the network did not change at its end.
        stage: the name of the stage; None for the ordinary one, `fit`.
        validation: the metric by which an epoch is chosen, on the validation split; None if nothing is validated.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_per_step: float
    parameters: int | None = None
    stage: str | None = None
    validation: float | None = None

    def entry(self) -> dict[str, Any]:
        """The report as an entry of a run's history, without what is None."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> EpochReport:
        """The report that an entry of a history was made of."""
        return cls(**entry)


def _ignore(told: object) -> None:
    """Do nothing about what is told."""


class TrainingContext(NamedTuple):
    """What a training is given beside its network.

    Attributes:
        task: the task, which gives the batches and the loss.
        examples: the training examples, on the device.
        recipe: the recipe.
        seed: the seed of the cell; with the task it fixes order and augmentation, for every method alike.
        identity: the identity that draws follow from, such as those of modules while they are trained, as dropout's.
        source: the digest of the data.
        device: the device that the network is on.
        search_seconds: seconds that the method's search took before the training.
        processes: the processes that train together; the recipe's `parts` are a multiple of their number.
        compiled: whether torch compiles the network.
        checkpoints: where checkpoints are read from and saved to; None to keep none.
        on_epoch: called with the report of every epoch that is trained now, once its checkpoint is saved.
        after_first_step: called with the network after the first step of an attempt.
        after_training: called with the network after each epoch of training and the changes that follow it, before the
            epoch is validated; raises whatever is to end the training.
        before_next: called with the number of the epoch before, in its stage, when another epoch is about to follow it;
            raises whatever is to interrupt the training.
        validation: the examples, on the device, that an epoch is chosen on; None if every epoch is trained and the
            last one reported.
        rebuild: builds a network of the given structure on the device, for an epoch before the structure changed.
        draws: further names that seeds are derived from, so that no two stages see the examples in the same order.
    """

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
    checkpoints: CheckpointFolder | None = None
    on_epoch: Callable[[EpochReport], None] = _ignore
    after_first_step: Callable[[Network], None] = _ignore
    after_training: Callable[[Network], None] = _ignore
    before_next: Callable[[int], None] = _ignore
    validation: Examples | None = None
    rebuild: Callable[[Mapping[str, Any]], Network] | None = None
    draws: tuple[str, ...] = ()


class NotFinite(Exception):
    """A loss that became NaN or infinite at a step, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(step)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """A context in which torch computes on `count` CPU threads; with another number, sums round differently."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def train_epoch(
    network: Network,
    context: TrainingContext,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    *,
    warm_up: bool,
    wrapped: WrappedNetwork | None = None,
) -> EpochReport:
    """Train a network for one epoch.

    Args:
        network: the network; changed in place.
        context: what the training is given.
        optimiser: the optimiser of the network's parameters.
        epoch: the number of the epoch, from 0.
        warm_up: whether it is the first epoch of an attempt, whose first steps are left out of timings.
        wrapped: runs the network; left out, the network runs as it is.

    Raises:
        NotFinite: if the loss becomes NaN or infinite.
    """
    wrapped = wrapped or WrappedNetwork(network)
    task, recipe, device = context.task, context.recipe, context.device
    steps = _steps(context, epoch)
    batches = iter(task.batches(context.examples, [part for step in steps for part in step.parts], recipe))
    losses = _Losses(context)
    network.train()
    rate, seconds = 0.0, []
    begun = time.perf_counter()
    with seeded("modules", context.identity, epoch, *context.draws):
        for number, step in enumerate(steps):
            step_begun = time.perf_counter()
            rate = learning_rate(recipe, epoch * len(steps) + number, recipe.epochs * len(steps))
            set_learning_rate(optimiser, rate)
            now = Step(recipe, epoch, epoch * len(steps) + number, (epoch + number / len(steps)) / recipe.epochs)
            optimiser.zero_grad(set_to_none=True)
            for place, part in enumerate(step.parts):
                batch = next(batches)
                if recipe.parts > 1:
                    # A part's modules draw the same numbers in whichever process they are.
                    torch.manual_seed(
                        derive_seed("modules", context.identity, epoch, number, step.first + place, *context.draws)
                    )
                with wrapped.collecting(last=place == len(step.parts) - 1):
                    loss = _part_loss(context, wrapped, batch, now)
                    # Processes take the mean of their gradients, so that each is weighted by its share of the batch.
                    weight = context.processes.count * len(part.indices) / step.size
                    (loss if weight == 1 else weight * loss).backward()  # type: ignore[no-untyped-call]
                losses.add(loss.detach(), len(part.indices), number + 1)
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            wrapped.after_step(len(step.parts))
            seconds.append(time.perf_counter() - step_begun)
            if warm_up and number == 0:
                context.after_first_step(network)
    mean_loss = losses.mean(sum(step.size for step in steps))
    elapsed = time.perf_counter() - begun
    steady = seconds[_WARM_UP_STEPS:] if warm_up and len(seconds) > _WARM_UP_STEPS else seconds
    # A GPU runs behind the host, so that its steps are timed together with the wait at the end of the epoch.
    per_step = statistics.median(steady) if device.type == "cpu" else elapsed / len(steps)
    return EpochReport(epoch + 1, mean_loss, rate, elapsed, per_step)


def too_many_parts(recipe: Recipe, examples: int) -> RecipeError:
    """The error for a recipe whose batches have more parts than there are examples to train on."""
    counted = "1 training example" if examples == 1 else f"{examples:,} training examples"
    return RecipeError(f"{counted} cannot be cut into batches of {recipe.parts:,} parts")


class _StepShare(NamedTuple):
    """What one process computes in a step.

    Attributes:
        size: the number of examples in the whole batch.
        parts: the parts of the batch that this process computes.
        first: the place of the first of these parts in the batch.
    """

    size: int
    parts: list[Part]
    first: int = 0


def _steps(context: TrainingContext, epoch: int) -> list[_StepShare]:
    """The steps of an epoch; a last batch that cannot be cut into the recipe's parts is left out."""
    task, recipe, count = context.task, context.recipe, len(context.examples)
    order = torch.randperm(count, generator=generator("order", task.name, context.seed, epoch, *context.draws))
    batches = [batch for batch in torch.split(order, recipe.batch_size) if len(batch) >= recipe.parts]
    if not batches:
        raise too_many_parts(recipe, count)
    if recipe.parts == 1:
        # All batches draw from one generator in turn.
        draws = generator("augmentation", task.name, context.seed, epoch, *context.draws)
        return [_StepShare(len(batch), [Part(batch, draws)]) for batch in batches]
    steps = []
    for step, batch in enumerate(batches):
        # Several processes may compute the parts, so that each part has a generator of its own.
        parts = [
            Part(indices, generator("augmentation", task.name, context.seed, epoch, step, number, *context.draws))
            for number, indices in enumerate(torch.tensor_split(batch, recipe.parts))
        ]
        mine = context.processes.share(parts)
        steps.append(_StepShare(len(batch), mine, context.processes.rank * len(mine)))
    return steps


def _part_loss(context: TrainingContext, wrapped: WrappedNetwork, batch: Any, step: Step) -> torch.Tensor:
    bf16 = context.recipe.precision == "bf16"
    with torch.autocast(context.device.type, torch.bfloat16, enabled=bf16):
        return context.task.loss(wrapped.module, batch, step)


class _Losses:
    """The losses of an epoch, and the first step, counted from 1, whose loss was not finite."""

    def __init__(self, context: TrainingContext) -> None:
        device = context.device
        self._processes = context.processes
        # To read a loss on a GPU is to wait for it, and a process that stops leaves the others waiting for ever: in
        # both cases the losses are looked at when the epoch is over.
        self._at_once = device.type == "cpu" and context.processes.count == 1
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
            # The process whose loss broke first tells; the losses of the others follow it.
            raise NotFinite(-self._processes.largest(-(int(self._broken.item()) or sys.maxsize)))
        return mean
