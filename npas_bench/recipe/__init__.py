"""How a network is trained: a recipe is part of a cell's identity."""

from npas_bench.recipe.base import Recipe
from npas_bench.recipe.images import ImageRecipe

__all__ = ["ImageRecipe", "Recipe"]
