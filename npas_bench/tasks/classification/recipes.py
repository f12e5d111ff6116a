"""The papers' training recipes for image classification by architecture, each with a short variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npas_bench.recipe import ImageRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping

# Plummer et al. 2022, appendix A.3; Savarese & Maire 2019; Teterwak et al. 2023.
_WRN = ImageRecipe(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    schedule="step",
    milestones=(0.3, 0.6, 0.8),
    gamma=0.2,
    weight_decay=5e-4,
    flip=True,
    crop=4,
    cutout=16,
)
# The recipe of the distillation that Plummer et al. 2022 compare with in table 3.
_RESNET = ImageRecipe(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    schedule="step",
    milestones=(0.5, 0.75),
    weight_decay=5e-4,
    flip=True,
    crop=4,
)
# Plummer et al. 2022, appendix A.3, after Huang et al. 2017, whose batch is 64.
_DENSENET = ImageRecipe(
    epochs=300,
    batch_size=96,
    learning_rate=0.1,
    schedule="step",
    milestones=(0.5, 0.75),
    weight_decay=1e-4,
    flip=True,
    crop=4,
)
# Plummer et al. 2022, appendix A.3, after Ye et al. 2020.
_EFFICIENTNET = ImageRecipe(
    epochs=100,
    batch_size=128,
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=1e-3,
    flip=True,
    crop=4,
)
_SMALL_IMAGES = {"resnet": _RESNET, "densenet": _DENSENET, "efficientnet": _EFFICIENTNET}

# He et al. 2016 and torchvision's references: the usual recipe for ImageNet.
_IMAGENET = ImageRecipe(
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    schedule="step",
    milestones=(1 / 3, 2 / 3),
    weight_decay=1e-4,
    flip=True,
    zoom=0.08,
)
# EfficientNets are trained longer, without steps, with smoothed labels (Tan & Le 2019, section 5.2, where the
# optimiser is RMSProp).
_IMAGENET_EFFICIENTNET = _IMAGENET.model_copy(
    update={"epochs": 100, "schedule": "cosine", "milestones": (), "weight_decay": 4e-5, "label_smoothing": 0.1}
)
_SHORT_EPOCHS = 10


def small_images(architecture: str, size: int = 32) -> Mapping[str, ImageRecipe]:
    """The recipes for CIFAR's images, and for others as small, whose windows and holes grow with them.

    `wrn-D-K` have the recipe of the papers' WRN; architectures that no paper trained on such images do, too.

    Args:
        architecture: name; its family decides.
        size: the images' side in pixels.
    """
    recipe = _SMALL_IMAGES.get(architecture.partition("-")[0], _WRN)
    scaled = {"crop": recipe.crop * size // 32, "cutout": recipe.cutout * size // 32}
    return _with_short(recipe.model_copy(update=scaled))


def large_images(architecture: str) -> Mapping[str, ImageRecipe]:
    """The recipes for ImageNet's images."""
    return _with_short(_IMAGENET_EFFICIENTNET if architecture.startswith("efficientnet") else _IMAGENET)


def _with_short(recipe: ImageRecipe) -> Mapping[str, ImageRecipe]:
    return {"default": recipe, "short": recipe.model_copy(update={"name": "short", "epochs": _SHORT_EPOCHS})}
