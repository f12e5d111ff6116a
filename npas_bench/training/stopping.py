"""When a training ends early, which of its epochs is the best, and the examples that both are decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from npas_bench.errors import RecipeError
from npas_bench.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Metric, Task


class StopRule(NamedTuple):
    """The rule by which a recipe ends a training and chooses an epoch.

    What it says follows from the values of the epochs so far and from nothing else, so that an interrupted training
    decides as an undisturbed one does.

    Attributes:
        metric: the metric that is measured on the validation split.
        min_delta: an epoch is an improvement if it gains more than this, in the metric's own units.
        patience: number of epochs without an improvement after which the training ends; None to train every epoch.
    """

    metric: Metric
    min_delta: float = 0.0
    patience: int | None = None

    @classmethod
    def of(cls, task: Task, recipe: Recipe) -> StopRule:
        """The rule of a recipe; one that ends nothing chooses an epoch by the task's first metric.

        Raises:
            RecipeError: if the task does not have the recipe's metric.
        """
        if recipe.stop_metric is None:
            return cls(task.metrics[0])
        named = {metric.name: metric for metric in task.metrics}
        if recipe.stop_metric not in named:
            raise RecipeError(
                f"stop_metric names '{recipe.stop_metric}', which task {task.name} does not measure: "
                f"name one of {', '.join(named)}"
            )
        return cls(named[recipe.stop_metric], recipe.min_delta, recipe.patience)

    def is_over(self, values: Sequence[float]) -> bool:
        """Tell whether a training ends after epochs with these values of the metric."""
        if self.patience is None or not values:
            return False
        reference, waited = values[0], 0
        for value in values[1:]:
            if self._gain(value, reference) > self.min_delta:
                reference, waited = value, 0
            else:
                waited += 1
        return waited >= self.patience

    def best(self, values: Sequence[float]) -> int:
        """The epoch with the best value, counted from 1; the earliest of several that are equal."""
        best = 0
        for place, value in enumerate(values):
            if self._gain(value, values[best]) > 0:
                best = place
        return best + 1

    def _gain(self, value: float, reference: float) -> float:
        return value - reference if self.metric.higher_is_better else reference - value


class TrainingSplit(NamedTuple):
    """The examples that a network is trained on, and those that an epoch is chosen on.

    Attributes:
        train: the training examples.
        validation: the validation examples; None if the recipe does not look at any.
    """

    train: Examples
    validation: Examples | None


def held_out(task: Task, recipe: Recipe, examples: int) -> int:
    """How many of the training examples a recipe holds out, where the task has no validation split of its own.

    Args:
        task: the task.
        recipe: a recipe that holds some out.
        examples: the number of training examples.

    Raises:
        RecipeError: if that leaves nothing to train on or to validate on.
    """
    held = round(recipe.validation * examples)
    if not 0 < held < examples:
        raise RecipeError(
            f"validation {recipe.validation} of the {examples:,} training examples of task {task.name} is "
            f"{held:,}: choose a share that leaves some for both"
        )
    return held


def split_training(task: Task, recipe: Recipe, seed: int) -> TrainingSplit:
    """The training split without what the recipe holds out, and the validation split.

    A task's own validation split goes first; otherwise a share of the training split is held out, which depends on
    the task and the seed alone, so that every method is trained and validated on the same examples.

    Args:
        task: the task.
        recipe: the recipe.
        seed: the cell's seed.

    Raises:
        RecipeError: if the recipe needs a validation split and there is none, or if the share that it holds out leaves
            nothing to train on or to validate on.
    """
    StopRule.of(task, recipe)
    examples = task.data("train")
    if "validation" in task.splits():
        return TrainingSplit(examples, task.data("validation") if recipe.validates else None)
    if recipe.validation == 0:
        if recipe.validates:
            raise RecipeError(
                f"recipe {recipe.name} chooses an epoch on a validation split, and task {task.name} has none: set the "
                "recipe's field validation to the share of the training split to hold out, such as 0.1"
            )
        return TrainingSplit(examples, None)
    held = held_out(task, recipe, len(examples))
    order = torch.randperm(len(examples), generator=generator("validation", task.name, seed))
    chosen, rest = order[:held].sort().values, order[held:].sort().values
    return TrainingSplit(examples.subset(rest), examples.subset(chosen) if recipe.validates else None)
