"""The learning rate of every step of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npas_bench.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step, before any factor for single parameters.

    Args:
        recipe: the recipe, which names the schedule.
        step: number of the step, from 0.
        steps: number of steps of the whole training.
    """
    rate = _scheduled(recipe, step, steps)
    if recipe.warmup_iterations:
        first, last = recipe.warmup_factors
        rate *= first + (last - first) * min(1.0, step / recipe.warmup_iterations)
    return rate


def _scheduled(recipe: Recipe, step: int, steps: int) -> float:
    match recipe.schedule:
        case "step":
            return _stepwise(recipe, step, steps)
        case "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * (step / steps))) / 2
        case "one-cycle":
            return _one_cycle(recipe, step, steps)
        case "exponential":
            return recipe.learning_rate * recipe.gamma ** (step * recipe.epochs // steps)
        case "linear":
            return _linear(recipe, step, steps)


def _stepwise(recipe: Recipe, step: int, steps: int) -> float:
    done = step / steps
    passed = sum(milestone <= done for milestone in recipe.milestones)
    passed += sum(milestone <= step for milestone in recipe.iteration_milestones)
    return recipe.learning_rate * recipe.gamma**passed


def _one_cycle(recipe: Recipe, step: int, steps: int) -> float:
    rising = max(1, round(recipe.warmup * steps))
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    falling = (step + 1 - rising) / max(1, steps - rising)
    return recipe.learning_rate * (1 + math.cos(math.pi * falling)) / 2


def _linear(recipe: Recipe, step: int, steps: int) -> float:
    """The schedule of BERT and of the transformers library: zero at the first step of a warm-up, and after the last."""
    rising = round(recipe.warmup * steps)
    if step < rising:
        return recipe.learning_rate * step / rising
    return recipe.learning_rate * (steps - step) / max(1, steps - rising)
