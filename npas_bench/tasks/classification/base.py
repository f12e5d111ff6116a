"""What image classification tasks have in common: images on the device, cross-entropy, error and calibration."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from npas_bench.errors import RecipeError
from npas_bench.recipe import ImageRecipe
from npas_bench.tasks.base import Examples, Normalisation, Task, recipe_of
from npas_bench.tasks.classification.augmentation import crop, cutout, flip
from npas_bench.tasks.classification.metrics import calibration_error, error
from npas_bench.tasks.measuring import Metric

if TYPE_CHECKING:
    from npas_bench.architectures import ImageSignature
    from npas_bench.recipe import Recipe
    from npas_bench.tasks.base import Step

_EVALUATION_BATCH = 500


class Images(NamedTuple):
    """A batch of images.

    Attributes:
        pixels: (n, channels, height, width), float, normalised.
        labels: (n,), int64.
    """

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet(Examples):
    """A split of images.

    Attributes:
        pixels: (n, channels, height, width), uint8.
        labels: (n,), int64.
        mean: mean of each channel in units of `pixels`, which is subtracted.
        deviation: standard deviation of each channel in units of `pixels`, which is divided by.
        unreadable: files whose images are left out because they cannot be read.
    """

    pixels: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    unreadable: tuple[str, ...] = ()

    @override
    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @override
    def to(self, device: torch.device) -> ImageSet:
        """The same images on another device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    @override
    def subset(self, indices: Tensor) -> ImageSet:
        """The images at `indices` alone."""
        indices = indices.to(self.labels.device)
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    @override
    def batch(self, indices: Tensor) -> Images:
        """The normalised images at `indices`, and their labels."""
        indices = indices.to(self.labels.device)
        pixels = self.pixels[indices].float()
        shift, scale = (pixels.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.deviation))
        return Images(laid_out((pixels - shift) / scale), self.labels[indices])

    @override
    def normalisation(self) -> Normalisation:
        """The mean and the deviation of each channel."""
        return Normalisation(self.mean, self.deviation)


class ClassificationTask(Task):
    """A task whose images have one label each.

    Version 2 put confidences of exactly 1 into the last bin of the calibration error, whose sums it takes in float64.
    """

    version: ClassVar[int] = 2
    training_version: ClassVar[int] = 1
    signature: ImageSignature
    recipe_class: ClassVar[type[Recipe]] = ImageRecipe
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("error@1", "%", higher_is_better=False),
        Metric("error@5", "%", higher_is_better=False),
        Metric("nll", "", higher_is_better=False, lowest=0.0),
        Metric("ece", "%", higher_is_better=False),
    )

    @abstractmethod
    @override
    def data(self, split: str) -> Examples:
        """The images of a split."""

    @override
    def recipe_refusal(self, recipe: Recipe) -> str | None:
        """What is wrong with zooming into images of one size, where a task does not read its batches itself."""
        own = type(self).augment is ClassificationTask.augment and type(self).batches is Task.batches
        zooms = isinstance(recipe, ImageRecipe) and recipe.zoom is not None
        return self._no_zoom() if own and zooms else None

    def _no_zoom(self) -> str:
        return f"task {self.name} has its images at one size: a recipe cannot zoom into them"

    @override
    def augment(self, batch: Images, recipe: Recipe, generator: torch.Generator) -> Images:
        """Flip, padded crop and cutout of the batch tensor, on its device; a recipe without these changes nothing."""
        if not isinstance(recipe, ImageRecipe):
            return batch
        pixels = batch.pixels
        if recipe.zoom is not None:
            raise RecipeError(self._no_zoom())
        if recipe.flip:
            pixels = flip(pixels, generator)
        if recipe.crop:
            pixels = crop(pixels, recipe.crop, generator)
        if recipe.cutout:
            pixels = cutout(pixels, recipe.cutout, generator)
        return Images(laid_out(pixels), batch.labels)

    @override
    def loss(self, network: nn.Module, batch: Images, step: Step) -> Tensor:
        """The cross-entropy, with labels smoothed as the recipe says."""
        logits = network(batch.pixels).float()
        return functional.cross_entropy(logits, batch.labels, label_smoothing=recipe_of(step).label_smoothing)

    @torch.no_grad()
    @override
    def evaluate(self, network: nn.Module, examples: Examples) -> dict[str, float]:
        """Top-1 and top-5 error in %, negative log likelihood in nats, expected calibration error in % (15 bins)."""
        logits, labels = [], []
        batch: Images
        for batch in examples.batches(torch.split(torch.arange(len(examples)), _EVALUATION_BATCH)):
            logits.append(network(batch.pixels).float())
            labels.append(batch.labels)
        scores, truth = torch.cat(logits), torch.cat(labels)
        return {
            "error@1": error(scores, truth, 1),
            "error@5": error(scores, truth, 5),
            "nll": functional.cross_entropy(scores.double(), truth).item(),
            "ece": calibration_error(scores, truth),
        }


def laid_out(pixels: Tensor) -> Tensor:
    """Pixels in channels-last layout, in which convolutions are faster by a quarter to a third, and which they keep."""
    return pixels.contiguous(memory_format=torch.channels_last)
