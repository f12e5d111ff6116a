"""The short trainings that methods search with."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from npas_bench.errors import Diverged
from npas_bench.training.loop import TrainingContext
from npas_bench.training.stages import Fit, run_stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from torch import Tensor

    from npas_bench.network import GeneratedNetwork
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Task


class Search:
    """Trains networks for a method's search, and adds up the time that it takes; a `npas_bench.methods.base.Trial`.

    Args:
        task: the task, which gives the batches and the loss.
        examples: the training examples, on the device.
        recipe: the recipe of the cell.
        seed: the seed of the cell.
        identity: the identity that the cell's draws follow from.
        device: the device to train on.

    Attributes:
        seconds: the seconds that all trainings together have taken.
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
        changes: dict[str, Any] = {"epochs": max(1, round(share * self._recipe.epochs))}
        if milestones:
            changes |= {"schedule": "step", "milestones": tuple(milestones), "gamma": 0.1}
        context = TrainingContext(
            task=self._task,
            examples=self._examples,
            recipe=self._recipe.derive(**changes),
            seed=self._seed,
            identity=f"search for {self._identity}",
            source="",
            device=self._device,
        )
        stage = _SearchFit(network if gradients else None)
        try:
            run_stages((stage,), network.to(self._device), context)
        except Diverged as diverged:
            # The epochs of a search are none of the run's.
            diverged.history = []
            raise
        network.cpu()
        self.seconds += time.perf_counter() - begun
        return {layer: gradient.cpu() for layer, gradient in stage.sums.items()}


class _SearchFit(Fit):
    """Fits a network as it is, without changes between epochs.

    Args:
        watched: the network, if the gradients of its weights are wanted.

    Attributes:
        sums: the gradient of each weight, summed over the last epoch, by layer; empty unless wanted.
    """

    adapts = False

    def __init__(self, watched: GeneratedNetwork | None) -> None:
        super().__init__("search")
        # Published results rest on searches that see the examples in the same order as the training.
        self.draws = ()
        self.place = "in the search, "
        self.sums: dict[str, Tensor] = {}
        self._watched = watched

    @contextmanager
    @override
    def around_epoch(self, epoch: int, epochs: int) -> Iterator[None]:
        """Sum up the gradients in the last epoch."""
        if self._watched is None or epoch + 1 < epochs:
            yield
            return
        with self._watched.weight_gradients() as self.sums:
            yield
