"""Fitting a network to its task by gradient descent: the stage that every ordinary training consists of."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from typing_extensions import override

from npas_bench.errors import Diverged, NpasBenchError
from npas_bench.network import state_tensors
from npas_bench.training.checkpoint import FIT, BestEpoch, Checkpoint, copied
from npas_bench.training.evaluation import evaluate
from npas_bench.training.loop import EpochReport, NotFinite, cpu_threads, train_epoch
from npas_bench.training.optimisers import make_optimiser, replace_parameter
from npas_bench.training.parallel import WrappedNetwork
from npas_bench.training.stages.base import Stage, TrainingState
from npas_bench.training.stopping import StopRule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from npas_bench.network import Network
    from npas_bench.recipe import Recipe
    from npas_bench.training.loop import TrainingContext


class Fit(Stage):
    """Trains a network on the training split for the epochs of a recipe, or until the recipe's stop rule ends it.

    Args:
        name: the name of the stage.
        recipe: the recipe; left out, it is that of the whole training.
    """

    # Whether the network may change between epochs.
    adapts = True

    def __init__(self, name: str = FIT, recipe: Recipe | None = None) -> None:
        self.name = name
        self._recipe = recipe
        # An ordinary training draws, and says where it diverges, as trainings did before there were stages.
        self.draws = () if name == FIT else (name,)
        self.place = "" if name == FIT else f"in the stage {name}, "

    @override
    def run(self, state: TrainingState, context: TrainingContext) -> TrainingState:
        """Train every epoch that is left; a checkpoint is saved after each of them.

        Where the recipe reports the best epoch, the network that is handed on is that of the best epoch.

        Raises:
            Diverged: if the loss, or the metric on the validation split, becomes NaN or infinite.
        """
        recipe = self._recipe or context.recipe
        fitting = _Fitting(self, state, context._replace(recipe=recipe, draws=self.draws))
        with cpu_threads(recipe.threads):
            fitting.train()
        return fitting.result()

    def around_epoch(self, epoch: int, epochs: int) -> AbstractContextManager[None]:
        """A context that an epoch, counted from 0, is trained in."""
        return nullcontext()


class _Fitting:
    """One run of the stage `Fit`: what changes from epoch to epoch."""

    def __init__(self, stage: Fit, state: TrainingState, context: TrainingContext) -> None:
        self._stage, self._context, self._state = stage, context, state
        self._network = state.network
        self._optimiser = make_optimiser(self._network, context.recipe)
        # An ordinary training does not name its stage in its history, as histories did before there were stages.
        self._label = None if stage.name == FIT else stage.name
        self._reports = [report for report in state.history if report.stage == self._label]
        self._earlier = state.history[: len(state.history) - len(self._reports)]
        validates = context.validation is not None and context.recipe.validates
        self._rule = StopRule.of(context.task, context.recipe) if validates else None
        self._best: BestEpoch | None = None
        if state.resumed is not None:
            load_tensors(self._network, state.resumed.network, state.resumed.state)
            self._optimiser.load_state_dict(state.resumed.optimiser)
            self._best = state.resumed.best
        self._wrapped = WrappedNetwork(self._network, context.processes, compiled=context.compiled)

    def train(self) -> None:
        """Train the epochs that are left."""
        first = len(self._reports)
        for epoch in range(first, self._context.recipe.epochs):
            if self._is_over():
                break
            if epoch > first:
                self._context.before_next(epoch)
            report = self._adapt(epoch, self._train_epoch(epoch, warm_up=epoch == first))
            self._context.after_training(self._network)
            report = self._validate(report)._replace(stage=self._label)
            self._reports.append(report)
            self._keep_best()
            self._save()
            self._context.on_epoch(report)
        if len(self._reports) == first:
            # Nothing was left to train, but an attempt's parameters are counted in its own file.
            self._save()

    def result(self) -> TrainingState:
        """The state after the stage, with the network of the epoch that is reported."""
        best, network = self._best, self._network
        if best is None or best.epoch == len(self._reports):
            return TrainingState(network, self._state.before, self._history())
        if best.structure != network.structure():
            if self._context.rebuild is None:
                raise NpasBenchError("the network changed after its best epoch, and nothing says how to build it again")
            network = self._context.rebuild(best.structure)
        load_tensors(network, best.network, best.state)
        return TrainingState(network, self._state.before, self._history(), best.epoch)

    def _history(self) -> tuple[EpochReport, ...]:
        return (*self._earlier, *self._reports)

    def _train_epoch(self, epoch: int, *, warm_up: bool) -> EpochReport:
        network, context, epochs = self._network, self._context, self._context.recipe.epochs
        if self._stage.adapts:
            network.before_epoch(epoch, epochs)
        try:
            with self._stage.around_epoch(epoch, epochs):
                return train_epoch(network, context, self._optimiser, epoch, warm_up=warm_up, wrapped=self._wrapped)
        except NotFinite as loss:
            raise self._diverged(f"at epoch {epoch + 1}, step {loss.step}") from None

    def _adapt(self, epoch: int, report: EpochReport) -> EpochReport:
        """Let the network change after an epoch, and the optimiser follow."""
        network, context = self._network, self._context
        if not self._stage.adapts:
            return report
        for summed in network.epoch_sums():
            context.processes.sum(summed)
        replacements = network.after_epoch(epoch, context.recipe.epochs)
        for replaced in replacements:
            replace_parameter(self._optimiser, replaced)
        if not replacements:
            return report
        self._wrapped.renew()
        return report._replace(parameters=sum(network.count().values()))

    def _validate(self, report: EpochReport) -> EpochReport:
        """Add what the first process measures on the validation split to an epoch's report, and the time it takes."""
        rule, context = self._rule, self._context
        if rule is None or context.validation is None:
            return report
        begun = time.perf_counter()
        value = 0.0
        if context.processes.rank == 0:
            measured = evaluate(context.task, self._network, context.validation, context.recipe, context.device)
            value = next(one.value for one in measured.ranking if one.name == rule.metric.name)
        value = context.processes.tell(value)
        if not math.isfinite(value):
            raise self._diverged(f"in {rule.metric.name} on the validation split, at epoch {report.epoch}")
        return report._replace(validation=value, seconds=report.seconds + time.perf_counter() - begun)

    def _values(self) -> list[float]:
        return [report.validation for report in self._reports if report.validation is not None]

    def _is_over(self) -> bool:
        return self._rule is not None and self._rule.is_over(self._values())

    def _keep_best(self) -> None:
        if self._rule is None or self._context.recipe.reported != "best":
            return
        if self._rule.best(self._values()) == len(self._reports):
            held = _tensors(self._network)
            self._best = BestEpoch(len(self._reports), *copied((*held, self._network.structure())))

    def _save(self) -> None:
        context = self._context
        if context.checkpoints is None or context.processes.rank != 0:
            return
        network, state = _tensors(self._network)
        checkpoint = Checkpoint(
            identity=context.identity,
            source=context.source,
            stage=self._stage.name,
            epoch=len(self._reports),
            network=network,
            state=state,
            optimiser=self._optimiser.state_dict(),
            before=self._state.before,
            structure=self._network.structure(),
            search_seconds=context.search_seconds,
            history=[report.entry() for report in self._history()],
            best=self._best,
        )
        context.checkpoints.save(checkpoint)

    def _diverged(self, where: str) -> Diverged:
        return Diverged(self._stage.place + where, [report.entry() for report in self._history()])


def _tensors(network: Network) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network's state dict, and the tensors that it leaves out and training may change."""
    held = network.state_dict()
    return held, {name: tensor for name, tensor in state_tensors(network).items() if name not in held}


def load_tensors(network: Network, held: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Load into a network what a checkpoint holds of one with the same structure.

    Args:
        network: the network; changed in place.
        held: its state dict.
        state: the tensors that the state dict leaves out.
    """
    network.load_state_dict(held)
    tensors = state_tensors(network)
    for name, value in state.items():
        tensors[name].copy_(value)
