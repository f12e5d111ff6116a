"""The one way in which networks are evaluated, on the validation split while they are trained and on the test split."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from npas_bench.tasks.measuring import Evaluation
from npas_bench.training.loop import cpu_threads

if TYPE_CHECKING:
    from torch import nn

    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Task


def evaluate(task: Task, network: nn.Module, examples: Examples, recipe: Recipe, device: torch.device) -> Evaluation:
    """Evaluate a network on a whole split, in the recipe's precision and on its number of CPU threads.

    Args:
        task: gives the metrics.
        network: the network, on the device; it is left in evaluation mode.
        examples: the split, on the device.
        recipe: the recipe that the network is trained by.
        device: the device.

    Raises:
        NpasBenchError: if the task does not tell its own metrics.
    """
    network.eval()
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    with cpu_threads(recipe.threads), torch.no_grad(), bf16:
        found = task.evaluate(network, examples)
    return Evaluation.of(found, task.metrics)


def not_finite(evaluation: Evaluation) -> list[str]:
    """The names of measured values that are NaN or infinite, with subject and split where these are not the usual."""
    return [
        one.name if one.ranks else f"{one.name} of {one.subject} ({one.split})"
        for one in evaluation.measured
        if not math.isfinite(one.value)
    ]
