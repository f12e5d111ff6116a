"""Recipes by which nothing can be trained, as far as that is known before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from npas_bench import plugins
from npas_bench.errors import RecipeError
from npas_bench.runner.build import problem_of
from npas_bench.training.loop import too_many_parts
from npas_bench.training.optimisers import check_factors, names_branches
from npas_bench.training.stopping import held_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.cells.cell import Cell
    from npas_bench.network import Network
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Task


def refuse_untrainable(cells: Sequence[Cell], task_of: Callable[[str], Task]) -> None:
    """Refuse cells that end in an error of their recipe as soon as they are trained.

    Args:
        cells: the cells.
        task_of: gives the task of a name.

    Raises:
        RecipeError: if a task has too few examples for a recipe, says that it cannot train by it, or if a recipe's
            factors name something that the network of a cell does not have.
    """
    # Cells that differ in their seeds share their recipe. Comparing the recipes of a hundred thousand cells takes long.
    recipes: dict[tuple[str, int], Cell] = {}
    networks: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        recipes.setdefault((cell.task, id(cell.recipe)), cell)
        kind = (cell.task, cell.architecture, cell.method, id(cell.options), cell.budget, id(cell.recipe))
        networks.setdefault(kind, cell)
    branching = {key for key, cell in recipes.items() if names_branches(cell.recipe)}
    for cell in recipes.values():
        try:
            with plugins.tasks.asked(cell.task.partition(":")[0]):
                _check_task(task_of(cell.task), cell.recipe)
        except RecipeError as error:
            raise RecipeError(f"recipe {cell.recipe.name} of task {cell.task}: {error}") from None
    for cell in networks.values():
        if (cell.task, id(cell.recipe)) not in branching:
            continue
        network = _network_without_values(cell, task_of(cell.task))
        try:
            if network is not None:
                check_factors(network, cell.recipe)
        except RecipeError as error:
            raise RecipeError(f"recipe {cell.recipe.name} of {cell}: {error}") from None


def _check_task(task: Task, recipe: Recipe) -> None:
    refusal = task.recipe_refusal(recipe)
    if refusal is not None:
        raise RecipeError(refusal)
    holds_out = bool(recipe.validation) and "validation" not in task.splits()
    if not holds_out and recipe.parts == 1:
        return
    examples = task.count("train")
    if holds_out:
        examples -= held_out(task, recipe, examples)
    if recipe.parts > examples:
        raise too_many_parts(recipe, examples)


def _network_without_values(cell: Cell, task: Task) -> Network | None:
    """The network of a cell on the meta device; None where it cannot be built so, which is no matter of the recipe."""
    try:
        with plugins.kept_from_exiting(cell.task, cell.architecture, cell.method), torch.device("meta"):
            return plugins.methods.load(cell.method)(cell.options).build(problem_of(cell, task))
    # A method may fail in any way, and without values it may fail where a run would not.
    except Exception:
        return None
