"""What recipes accept, what they refuse, and what counts as the same recipe."""

import copy
import pickle
import re

import pytest
from pydantic import ValidationError

from npas_bench.errors import RecipeError, UnknownName
from npas_bench.recipe import ImageRecipe, Recipe
from npas_bench.recipe.stored import defaults, differing, named_changes
from tests.conftest import REPOSITORY

PLAIN = Recipe(epochs=3, batch_size=8, learning_rate=0.1)
NEW = {
    "optimiser": "sgd",
    "learning_rate_factors": {},
    "nesterov": True,
    "betas": [0.9, 0.999],
    "epsilon": 1e-8,
    "iteration_milestones": [],
    "warmup_iterations": 0,
    "warmup_factors": [0.0, 1.0],
    "weight_decay_factors": {},
    "validation": 0.0,
    "stop_metric": None,
    "min_delta": 0.0,
    "patience": 10,
    "reported": "last",
}


def test_new_fields_have_defaults_that_never_change_and_that_content_leaves_out():
    assert {field: defaults()[field] for field in NEW} == NEW
    assert PLAIN.content() == {"epochs": 3, "batch_size": 8, "learning_rate": 0.1}


def test_no_class_of_recipes_changes_an_inherited_default():
    for name, field in Recipe.model_fields.items():
        assert ImageRecipe.model_fields[name].default == field.default


@pytest.mark.parametrize(
    "fields",
    [
        {"optimiser": "adam", "betas": (0.8, 0.9), "epsilon": 1e-6},
        {"optimiser": "adamax"},
        {"schedule": "exponential", "gamma": 0.794},
        {"schedule": "linear", "warmup": 0.0},
        {"schedule": "step", "iteration_milestones": (10, 13), "gamma": 0.25},
        {"warmup_iterations": 4000, "warmup_factors": (0.5, 2.0), "schedule": "cosine"},
        {"weight_decay": 1e-3, "weight_decay_factors": {"biases": 0, "text": 5}},
        {"learning_rate_factors": {"text": 2.0}},
        {"stop_metric": "error@1", "min_delta": 0.1, "patience": 2, "validation": 0.1},
        {"reported": "best"},
        # What was always accepted, though the schedule makes nothing of it.
        {"schedule": "cosine", "milestones": (0.5,), "gamma": 0.2, "warmup": 0.1},
        {"schedule": "one-cycle", "milestones": (0.5,)},
        {"momentum": 0.0},
    ],
)
def test_fields_that_fit_are_accepted_and_are_part_of_the_content(fields):
    recipe = Recipe(**PLAIN.model_dump() | fields)
    content = recipe.content()
    assert content.keys() == PLAIN.content().keys() | {name for name in fields if fields[name] != defaults()[name]}
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert hash(Recipe.model_validate_json(recipe.model_dump_json())) == hash(recipe)
    assert differing(recipe.model_dump(mode="json")) == content


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"optimiser": "adam", "momentum": 0.5},
            "momentum does not fit optimiser adam: it is for sgd; adam takes",
        ),
        ({"optimiser": "adamw", "nesterov": False}, "nesterov does not fit optimiser adamw"),
        (
            {"betas": (0.8, 0.9)},
            "betas does not fit optimiser sgd: it is for adam, adamw or adamax",
        ),
        ({"epsilon": 1e-6}, "epsilon does not fit optimiser sgd"),
        (
            {"schedule": "linear", "milestones": (0.5,)},
            "milestones does not fit schedule linear: it is for step",
        ),
        ({"schedule": "linear", "gamma": 0.5}, "gamma does not fit schedule linear: it is for step or exponential"),
        ({"schedule": "exponential", "warmup": 0.1}, "warmup does not fit schedule exponential"),
        ({"schedule": "cosine", "iteration_milestones": (5,)}, "iteration_milestones does not fit schedule cosine"),
        ({"schedule": "one-cycle", "warmup": 0.0}, "warmup of schedule one-cycle is a share of the steps above 0"),
        ({"iteration_milestones": (5, 5)}, "iteration_milestones are rising"),
        ({"warmup_factors": (0.5, 2.0)}, "warmup_factors means nothing without warmup_iterations: set"),
        ({"weight_decay_factors": {"norms": 0}}, "weight_decay_factors means nothing without weight_decay"),
        ({"patience": 3}, "patience means nothing without stop_metric"),
        ({"min_delta": 0.5}, "min_delta means nothing without stop_metric"),
        ({"optimiser": "rmsprop"}, "'sgd', 'adam', 'adamw' or 'adamax'"),
        ({"betas": (0.9,)}, "betas"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"learning_rate_factors": {"text": -1}}, "learning_rate_factors.text"),
        ({"flip": True}, "flip"),
    ],
)
def test_fields_that_do_not_fit_are_refused_with_what_would(fields, message):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(PLAIN.model_dump() | fields)
    assert message in str(caught.value)


def test_factors_that_change_nothing_are_left_out():
    recipe = PLAIN.changed({"learning_rate_factors": {"text": 2.0, "image": 1.0, "biases": 0.5}})
    assert list(recipe.learning_rate_factors.items()) == [("biases", 0.5), ("text", 2.0)]
    assert PLAIN.changed({"learning_rate_factors": {"image": 1}}) is PLAIN
    decaying = PLAIN.changed({"weight_decay": 0.1})
    assert decaying.changed({"weight_decay_factors": {"image": 1, "coefficients": 0}}) is decaying
    assert decaying.changed({"weight_decay_factors": {"coefficients": 1}}).weight_decay_factors == {"coefficients": 1.0}


def test_a_derived_recipe_tells_its_changes_in_its_name():
    assert PLAIN.derive(epochs=2, parts=None).name == "default+epochs=2"
    assert PLAIN.derive(epochs=3) is PLAIN
    changed = PLAIN.changed({"schedule": "cosine", "clip": 2, "betas": [0.8, 0.9], "optimiser": "adam"})
    assert changed.name == "default+betas=[0.8,0.9]+clip=2.0+optimiser=adam+schedule=cosine"
    assert changed.changed({"clip": None}).clip is None
    long = PLAIN.changed({"learning_rate_factors": {f"branch {number}": 2 for number in range(50)}})
    assert len(long.name) <= 150
    assert long.name != PLAIN.changed({"learning_rate_factors": {f"branch {number}": 3 for number in range(50)}}).name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 2, "precision": "bf16"},
        {"optimiser": "adam", "betas": [0.8, 0.9], "epsilon": 1e20, "learning_rate_factors": {"a+b=c": 2.0}},
        {"clip": 1.0, "stop_metric": "error@1", "validation": 0.1, "nesterov": False},
        {"learning_rate_factors": {f"branch {number}": 2.0 for number in range(50)}},
    ],
)
def test_a_stored_recipe_tells_what_makes_it_again(changes):
    made = PLAIN.changed(changes)
    name, again = named_changes(made.name, made.model_dump(mode="json"))
    assert name == "default"
    assert PLAIN.changed(again).content() == made.content()
    if not any("branch 0" in str(value) or "a+b" in str(value) for value in changes.values()):
        assert again == changes


def test_another_optimiser_or_schedule_leaves_the_settings_of_the_one_before():
    wide = PLAIN.changed({"momentum": 0.5, "milestones": (0.5,), "gamma": 0.2, "stop_metric": "nll", "patience": 2})
    changed = wide.changed({"optimiser": "adam", "schedule": "linear", "stop_metric": None})
    assert changed.content() == PLAIN.content() | {"optimiser": "adam", "schedule": "linear"}
    assert wide.changed({"schedule": "exponential"}).gamma == 0.2
    tolerated = Recipe(**PLAIN.model_dump() | {"schedule": "cosine", "milestones": (0.5,)})
    assert tolerated.derive(epochs=2).milestones == (0.5,)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"optimizer": "adam"}, UnknownName, "unknown recipe field 'optimizer': did you mean optimiser"),
        ({"flip": True}, UnknownName, "unknown recipe field 'flip'"),
        ({"name": "mine"}, UnknownName, "unknown recipe field 'name'"),
        ({"epochs": "many"}, RecipeError, "epochs: 'many' is refused: Input should be a valid integer"),
        ({"epochs": True}, RecipeError, "epochs: true is not a value that it takes"),
        ({"nesterov": "perhaps"}, RecipeError, "nesterov: 'perhaps' is refused"),
        ({"optimiser": "adam", "momentum": 0.9}, RecipeError, "momentum does not fit optimiser adam"),
        ({"schedule": "cosine", "milestones": (0.5,)}, RecipeError, "milestones does not fit schedule cosine"),
        ({"parts": 9}, RecipeError, "a batch of 8 cannot be cut into 9 parts"),
        ({"epochs": 0}, RecipeError, "epochs: 0 is refused: Input should be greater than 0"),
    ],
)
def test_an_impossible_change_is_refused_with_its_field(changes, error, message):
    with pytest.raises(error) as caught:
        PLAIN.changed(changes)
    assert message in str(caught.value)


def test_recipes_of_before_images_had_a_class_still_work_and_warn():
    with pytest.warns(DeprecationWarning, match="is now written ImageRecipe"):
        old = Recipe(epochs=1, batch_size=2, learning_rate=0.1, crop=4)
    new = ImageRecipe(epochs=1, batch_size=2, learning_rate=0.1, crop=4)
    assert type(old) is ImageRecipe
    assert old == new
    assert old.derive(epochs=2) == new.derive(epochs=2)
    assert pickle.loads(pickle.dumps(old)) == copy.deepcopy(new) == old  # noqa: S301


def test_the_page_on_recipes_lists_every_field_and_no_other():
    page = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(ImageRecipe.model_fields.keys() - {"name"})
