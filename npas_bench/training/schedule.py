"""Learning rates over a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npas_bench.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step.

    Args:
        recipe: gives the schedule.
        step: from 0.
        steps: of the whole training.
    """
    done = step / steps
    if recipe.schedule == "step":
        passed = sum(milestone <= done for milestone in recipe.milestones)
        return recipe.learning_rate * recipe.gamma**passed
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * done)) / 2
    rising = max(1, round(recipe.warmup * steps))
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    falling = (step + 1 - rising) / max(1, steps - rising)
    return recipe.learning_rate * (1 + math.cos(math.pi * falling)) / 2
