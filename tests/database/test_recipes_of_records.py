"""Recipes of records from versions that had fewer fields or have more: what is accepted, and what is forged."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from npas_bench.cells.cell import Cell
from npas_bench.database.exchange.record import CellRecord
from npas_bench.recipe import ImageRecipe
from npas_bench.recipe.stored import defaults

PLAIN = ImageRecipe(epochs=3, batch_size=8, learning_rate=0.1)
CHANGES = {
    "epochs": 9,
    "clip": 2.5,
    "flip": True,
    "milestones": [0.3, 0.6],
    "weight_decay": 0.25,
    "learning_rate_factors": {"text": 2.0},
    "validation": 0.1,
    "threads": 2,
    "reported": "best",
}
VALUES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("abc") | st.lists(st.integers(0, 9))
)
# Names that no version has had so far.
LATER = st.text("xyz", min_size=1, max_size=4).map(lambda text: f"later_{text}")


def record_of(recipe, stored, entries):
    """A record of a cell with this recipe, which is stored in one way and canonical in another."""
    cell = Cell("digits", 1, "wrn-10-1", "full", 1, {}, 77_562, recipe, 0)
    canonical = json.dumps(json.loads(cell.canonical) | {"recipe": entries}, sort_keys=True, separators=(",", ":"))
    fields = {
        **{"identity": hashlib.sha256(canonical.encode()).hexdigest(), "identity_version": 1, "canonical": canonical},
        **{"task": "digits", "task_version": 1, "architecture": "wrn-10-1", "method": "full", "method_version": 1},
        **{"options": {}, "budget": 77_562, "budget_text": "100%", "full": 77_562, "seed": 0},
        **{"recipe": {"name": "mine"} | stored, "recipe_name": "mine"},
    }
    return fields, cell.identity


@st.composite
def written_records(draw):
    """A recipe, its canonical entries, and its fields as some version stored them."""
    changed = draw(st.sets(st.sampled_from(sorted(CHANGES))))
    recipe = PLAIN.changed({field: CHANGES[field] for field in changed})
    entries = recipe.content()
    full = recipe.model_dump(mode="json", exclude={"name"})
    # An older version had none of some fields, which are at their defaults here.
    absent = draw(st.sets(st.sampled_from(sorted(full.keys() - entries.keys()))))
    stored = {field: value for field, value in full.items() if field not in absent}
    # A newer one has more, at a default or not.
    at_default = draw(st.dictionaries(LATER, VALUES, max_size=3))
    differing = draw(st.dictionaries(LATER.map(lambda name: f"{name}_set"), VALUES, max_size=3))
    return recipe, entries | differing, stored | at_default | differing


@given(written_records())
def test_a_record_of_any_version_is_accepted_and_keeps_its_identity(written):
    recipe, entries, stored = written
    fields, identity = record_of(recipe, stored, entries)
    accepted = CellRecord.model_validate(fields)
    assert accepted.identity == fields["identity"]
    if entries == recipe.content():
        assert accepted.identity == identity


@given(written_records(), st.data())
def test_a_record_that_contradicts_its_canonical_form_is_refused(written, data):
    recipe, entries, stored = written
    kind = data.draw(st.sampled_from(["stored value", "canonical value", "no entry", "no field", "default entry"]))
    if kind == "stored value":
        field = data.draw(st.sampled_from(sorted(entries.keys() | (stored.keys() & defaults().keys()))))
        stored = stored | {field: "forged"}
    elif kind == "canonical value":
        entries = entries | {data.draw(st.sampled_from(sorted(entries))): "forged"}
    elif kind == "no entry":
        known = sorted(entries.keys() - {field for field in entries if field.startswith("later_")})
        dropped = data.draw(st.sampled_from(known))
        entries = {field: value for field, value in entries.items() if field != dropped}
    elif kind == "no field":
        dropped = data.draw(st.sampled_from(sorted(entries)))
        stored = {field: value for field, value in stored.items() if field != dropped}
    else:
        field = data.draw(st.sampled_from(sorted(defaults().keys() - entries.keys())))
        entries, stored = entries | {field: defaults()[field]}, stored | {field: defaults()[field]}
    fields, _ = record_of(recipe, stored, entries)
    with pytest.raises(ValidationError, match="does not agree with its canonical form: recipe"):
        CellRecord.model_validate(fields)
