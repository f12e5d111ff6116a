"""A version of a task that only measures otherwise trains as the version before it did."""

import dataclasses

import pytest
import torch

from npas_bench import plugins
from npas_bench.cells.cell import Cell
from npas_bench.recipe import ImageRecipe
from npas_bench.runner.build import build_network, drawn_as, problem_of
from npas_bench.tasks.classification.base import ClassificationTask
from npas_bench.tasks.classification.digits import Digits

RECIPE = ImageRecipe(epochs=1, batch_size=32, learning_rate=0.1)


def cell(version, method="full", budget=77_562):
    return Cell("digits", version, "wrn-10-1", method, plugins.methods.load(method).version, {}, budget, RECIPE, 0)


class VersionOne(Digits):
    """The digits as they were measured at first."""

    version = 1


def values(task, method, budget):
    network = build_network(cell(task.version, method, budget), task).network
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(("method", "budget"), [("full", 77_562), ("ssn", 7_756), ("hashednets", 7_756)])
def test_cells_of_both_versions_begin_with_the_same_values(method, budget):
    assert Digits.version == 2
    assert torch.equal(values(Digits(), method, budget), values(VersionOne(), method, budget))


def test_such_cells_are_different_cells_that_draw_the_same():
    old, new = cell(1), cell(2)
    assert old.identity != new.identity
    assert drawn_as(new, Digits()) == drawn_as(old, VersionOne()) == old.identity
    assert problem_of(new, Digits()).seed == problem_of(old, VersionOne()).seed


def test_what_else_is_in_a_cell_changes_its_draws():
    for change in ({"seed": 1}, {"budget": 77_561}, {"recipe": RECIPE.derive(epochs=2)}):
        assert drawn_as(dataclasses.replace(cell(2), **change), Digits()) != drawn_as(cell(2), Digits())


def test_a_plugin_s_task_trains_by_the_version_that_it_states():
    class Unstated(ClassificationTask):
        pass

    class Fifth(ClassificationTask):
        version = 5

    class AsThird(Fifth):
        version = 6
        training_version = 3

    class Seventh(AsThird):
        version = 7

    found = [(task.version, task.training_version) for task in (Unstated, Fifth, AsThird, Seventh)]
    assert found == [(2, 1), (5, 5), (6, 3), (7, 7)]
