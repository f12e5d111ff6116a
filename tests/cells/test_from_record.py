"""Cells that are made again from what a database holds of them."""

import dataclasses
import json

import pytest

from npas_bench import plugins
from npas_bench.cells.cell import Cell, RecordedCell
from npas_bench.errors import RecordError
from npas_bench.recipe import ImageRecipe
from tests.cells.test_identity import PLAIN

HERE = plugins.tasks.load("digits").version
SSN = Cell(
    "digits",
    HERE,
    "wrn-10-1",
    "ssn",
    plugins.methods.load("ssn").version,
    {"upsample": "inter"},
    7_756,
    ImageRecipe(epochs=15, batch_size=32, learning_rate=0.1, schedule="one-cycle", weight_decay=5e-4),
    3,
    "10%",
)


def record(cell, **changes):
    fields = {name: getattr(cell, name) for name in RecordedCell._fields if name not in ("identity_version", "recipe")}
    stored = json.loads(json.dumps(cell.recipe.model_dump(mode="json")))
    return RecordedCell(**fields, identity_version=1, recipe=stored)._replace(**changes)


def test_a_cell_comes_back_from_its_record_with_its_identity():
    for cell in (dataclasses.replace(PLAIN, task_version=HERE), SSN):
        again = Cell.from_record(record(cell))
        assert (again, again.identity, again.budget_text) == (cell, cell.identity, cell.budget_text)


def test_a_record_from_before_a_field_existed_and_one_with_an_unknown_field_at_its_default_keep_their_identity():
    older = record(SSN)
    kept = {name: value for name, value in older.recipe.items() if name not in ("nesterov", "betas", "patience")}
    newer = older._replace(recipe={**older.recipe, "sharpness": 0})
    for other in (older._replace(recipe=kept), newer):
        assert Cell.from_record(other).identity == SSN.identity


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identity_version": 2}, "its identity is of version 2, and this npas-bench .* makes version 1"),
        ({"identity": "0" * 64}, "not the sha256 of its canonical form"),
        ({"seed": 4}, "do not agree with its canonical form"),
        ({"options": {}}, "do not agree with its canonical form"),
        ({"method": "ssm"}, "lacks what it needs: unknown method 'ssm': did you mean ssn"),
        ({"options": {"upsampel": 1}}, "lacks what it needs: unknown option"),
        ({"architecture": "wrn-11-1"}, "lacks what it needs: .*6 N"),
        ({"task": "figures"}, "lacks what it needs: unknown task 'figures'"),
        ({"method_version": 1}, "version 1 of method ssn, and version 2 is installed.*install the npas-bench"),
        ({"task_version": 9}, f"version 9 of task digits, and version {HERE} is installed"),
        ({"recipe": {"epochs": 15}}, "its recipe is none of task digits"),
    ],
)
def test_a_record_that_cannot_be_run_here_is_refused_with_what_would_be_needed(changes, reason):
    with pytest.raises(RecordError, match=reason):
        Cell.from_record(record(SSN, **changes))


def test_a_recipe_field_that_determines_the_result_and_is_unknown_here_is_refused():
    canonical = SSN.canonical.replace('"recipe":{', '"recipe":{"a_sharpness":2,')
    import hashlib

    identity = hashlib.sha256(canonical.encode()).hexdigest()
    with pytest.raises(RecordError, match="its recipe has a_sharpness, unknown to this npas-bench"):
        Cell.from_record(record(SSN, canonical=canonical, identity=identity))
