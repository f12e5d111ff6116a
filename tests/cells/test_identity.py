"""Identities of cells. The golden ones never change: what must change them raises IDENTITY_VERSION."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.cells.cell import Cell
from npas_bench.methods.ssn import SSN
from npas_bench.recipe import ImageRecipe

PLAIN = Cell(
    task="digits",
    task_version=1,
    architecture="wrn-10-1",
    method="full",
    method_version=1,
    options={},
    budget=77_562,
    recipe=ImageRecipe(epochs=15, batch_size=32, learning_rate=0.1),
    seed=0,
    budget_text="100%",
)
RICH = Cell(
    task="cifar10",
    task_version=2,
    architecture="wrn-28-10",
    method="ssn",
    method_version=3,
    options={"upsample": "inter", "templates": 4},
    budget=365_000,
    recipe=ImageRecipe(
        name="papers",
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        milestones=(0.3, 0.6, 0.8),
        gamma=0.2,
        weight_decay=5e-4,
        flip=True,
        crop=4,
        cutout=16,
        precision="bf16",
        threads=2,
    ),
    seed=7,
)


@pytest.mark.parametrize(
    ("cell", "canonical", "identity"),
    [
        (
            PLAIN,
            '{"architecture":"wrn-10-1","budget":77562,"identity_version":1,"method":"full","method_version":1,'
            '"options":{},"recipe":{"batch_size":32,"epochs":15,"learning_rate":0.1},"seed":0,"task":"digits",'
            '"task_version":1}',
            "cd46646b82308a74c8cefea90553abed5a34dd2105e79108a2b8b29dc003a18d",
        ),
        (
            dataclasses.replace(PLAIN, task_version=2),
            '{"architecture":"wrn-10-1","budget":77562,"identity_version":1,"method":"full","method_version":1,'
            '"options":{},"recipe":{"batch_size":32,"epochs":15,"learning_rate":0.1},"seed":0,"task":"digits",'
            '"task_version":2}',
            "76e7f4bafd0f5665bda911c74e928b47a78a1131a875c0a31fc9c3ba8096fd77",
        ),
        (
            RICH,
            '{"architecture":"wrn-28-10","budget":365000,"identity_version":1,"method":"ssn","method_version":3,'
            '"options":{"templates":4,"upsample":"inter"},"recipe":{"batch_size":128,"crop":4,"cutout":16,'
            '"epochs":200,"flip":true,"gamma":0.2,"learning_rate":0.1,"milestones":[0.3,0.6,0.8],'
            '"precision":"bf16","threads":2,"weight_decay":0.0005},"seed":7,"task":"cifar10","task_version":2}',
            "145b74b3a67e730c9d99fd2e54d4005a6233d15761be8cdd9bd7fd61b892380c",
        ),
    ],
)
def test_golden_identities(cell, canonical, identity):
    assert cell.canonical == canonical
    assert cell.identity == identity


@pytest.mark.parametrize("task", ["digits", "cifar10", "cifar100", "image-folder", "imagenet"])
def test_the_tasks_of_classification_are_of_the_version_that_their_metrics_have(task):
    """A change of any metric raises it; the identities above are those of both versions."""
    assert plugins.tasks.load(task).version == 2


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"task_version": 2},
        {"architecture": "wrn-10-2"},
        {"method": "reduced"},
        {"method_version": 2},
        {"options": {"templates": 1}},
        {"budget": 77_561},
        {"recipe": PLAIN.recipe.derive(epochs=14)},
        {"recipe": PLAIN.recipe.derive(threads=2)},
        {"recipe": PLAIN.recipe.derive(precision="bf16")},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_determines_the_result_changes_the_identity(change):
    assert dataclasses.replace(PLAIN, **change).identity != PLAIN.identity


def test_the_defaults_that_identities_leave_out_never_change():
    """A field at its default is not hashed, so a new field keeps old identities, and an old default is for ever."""
    recipe = ImageRecipe(epochs=1, batch_size=1, learning_rate=1.0).model_dump(mode="json")
    pinned = {
        "schedule": "step",
        "milestones": [],
        "gamma": 0.1,
        "warmup": 0.3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "clip": None,
        "flip": False,
        "crop": 0,
        "cutout": 0,
        "precision": "fp32",
        "threads": 1,
    }
    assert {key: recipe[key] for key in pinned} == pinned
    assert SSN.version == 2
    assert SSN().options.model_dump(mode="json") == {
        "groups": 1,
        "mapping": "single",
        "combine": "wavg",
        "upsample": "mask",
        "templates": 8,
        "embedding": 24,
        "mask_window": 9,
        "mask_scope": "group",
        "search_share": 0.1,
        "search_templates": 4,
        "search_by": "wavg",
    }


def test_names_and_spellings_do_not():
    assert dataclasses.replace(PLAIN, budget_text="77562").identity == PLAIN.identity
    renamed = PLAIN.recipe.model_copy(update={"name": "other"})
    assert dataclasses.replace(PLAIN, recipe=renamed).identity == PLAIN.identity
    assert PLAIN.recipe.derive(epochs=15) is PLAIN.recipe


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4), st.randoms())
def test_the_order_of_options_does_not_matter(options, random):
    shuffled = list(options.items())
    random.shuffle(shuffled)
    first = dataclasses.replace(PLAIN, options=options)
    assert first.identity == dataclasses.replace(PLAIN, options=dict(shuffled)).identity
