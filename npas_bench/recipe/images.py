"""The recipe of tasks whose examples are images."""

from __future__ import annotations

from pydantic import Field

from npas_bench.recipe.base import Recipe


class ImageRecipe(Recipe):
    """A training recipe for images, which says how they are changed at random.

    Attributes:
        flip: mirror images left to right at random.
        crop: padding in pixels around an image before a random crop of its own size; 0 crops nothing.
        zoom: smallest share of its area that a random part of an image has, which is scaled to the whole's size
            (Szegedy et al. 2015); None takes the whole.
        cutout: side in pixels of a square set to zero at a random place (DeVries & Taylor 2017); 0 cuts nothing.
    """

    flip: bool = False
    crop: int = Field(default=0, ge=0)
    zoom: float | None = Field(default=None, gt=0, le=1)
    cutout: int = Field(default=0, ge=0)
