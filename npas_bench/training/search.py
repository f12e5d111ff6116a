"""The short training that methods search with."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from npas_bench.errors import Diverged
from npas_bench.training.loop import NotFinite, Training, cpu_threads, train_epoch
from npas_bench.training.optimisers import make_optimiser

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from npas_bench.network import GeneratedNetwork
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Task


class Search:
    """Trains networks for a method's search, and keeps the time; a `npas_bench.methods.base.Trial`.

    Args:
        task: gives loss and augmentation.
        examples: the training split, on the device.
        recipe: of the cell.
        seed: the cell's seed.
        identity: of the cell.
        device: to train on.
    """

    def __init__(
        self, task: Task, examples: Examples, recipe: Recipe, seed: int, identity: str, device: torch.device
    ) -> None:
        self._task, self._examples, self._recipe = task, examples, recipe
        self._seed, self._identity, self._device = seed, identity, device
        self.seconds = 0.0

    def __call__(
        self, network: GeneratedNetwork, share: float, *, milestones: Sequence[float] = (), gradients: bool = False
    ) -> dict[str, Tensor]:
        """Train a network in place for a share of the recipe's epochs; see `Trial`.

        Raises:
            Diverged: if the loss becomes NaN or infinite.
        """
        begun = time.perf_counter()
        epochs = max(1, round(share * self._recipe.epochs))
        changes: dict[str, Any] = {"epochs": epochs}
        if milestones:
            changes |= {"schedule": "step", "milestones": tuple(milestones), "gamma": 0.1}
        training = Training(
            network=network.to(self._device),
            task=self._task,
            examples=self._examples,
            recipe=self._recipe.derive(**changes),
            seed=self._seed,
            identity=f"search for {self._identity}",
            source="",
            device=self._device,
        )
        optimiser = make_optimiser(network, training.recipe)
        sums: dict[str, Tensor] = {}
        with cpu_threads(training.recipe.threads):
            for epoch in range(epochs):
                last = gradients and epoch == epochs - 1
                summing = network.weight_gradients() if last else nullcontext({})
                with summing as sums:
                    try:
                        train_epoch(training, optimiser, epoch, warm_up=epoch == 0)
                    except NotFinite as loss:
                        raise Diverged(f"in the search, at epoch {epoch + 1}, step {loss.step}", []) from None
        network.cpu()
        self.seconds += time.perf_counter() - begun
        return {layer: gradient.cpu() for layer, gradient in sums.items()}
