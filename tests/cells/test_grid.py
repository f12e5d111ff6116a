import random
import re
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npas_bench import plugins
from npas_bench.cells.cell import Cell
from npas_bench.cells.grid import Block, Expander, Grid, MethodEntry, read_grid
from npas_bench.cells.grid_files import grid_files
from npas_bench.cells.recipes import Change
from npas_bench.cells.yaml_text import read_yaml
from npas_bench.errors import GridError, NpasBenchError, OptionError, RecipeError, UnknownName


def write(text):
    Path("grid.yaml").write_text(text, encoding="utf-8")
    return "grid.yaml"


# Nine aliases of nine aliases, and so on: half a million entries in seven lines.
ALIASES = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in ("ab", "bc", "cd", "de", "ef", "fg")
)
GOOD = """
about: a test
tasks: [digits]
methods: [full, reduced, {name: ssn, options: {upsample: inter}}]
budgets: [5%, 10%, 7000]
seeds: 2
beside: [plummer2022npas Table 5]
"""


def test_a_grid_is_the_product_of_its_lists_with_full_once():
    grid = read_grid(write(GOOD))
    cells = Expander().cells(grid)
    assert grid.beside == ("plummer2022npas Table 5",)
    assert len(cells) == 2 + 2 * 3 * 2
    assert [(c.budget_text, c.budget) for c in cells if c.method == "full"] == [("100%", 77_562)] * 2
    assert {c.budget for c in cells if c.method == "ssn"} == {3_878, 7_756, 7_000}
    assert {c.architecture for c in cells} == {"wrn-10-1"}
    assert {tuple(c.options.items()) for c in cells if c.method == "ssn"} == {(("upsample", "inter"),)}


def test_blocks_are_products_of_their_own_and_cells_count_once():
    text = (
        "blocks:\n- {tasks: [digits], methods: [full], seeds: [0, 4]}\n- {tasks: [digits], methods: [full], seeds: 1}"
    )
    assert [cell.seed for cell in Expander().cells(read_grid(write(text)))] == [0, 4]


def test_a_large_grid_has_every_cell_once_with_the_identity_of_one_made_alone():
    text = "tasks: [digits]\nmethods: [reduced, {name: ssn, options: {templates: 4}}]\nbudgets: [5%, 10%]\nseeds: 500"
    cells = Expander().cells(read_grid(write(text)))
    assert len(cells) == len({cell.identity for cell in cells}) == 2000
    assert [cell.seed for cell in cells] == [seed for seed in range(500) for _ in range(4)]
    for cell in cells[:: len(cells) // 7]:
        names = [field.name for field in fields(Cell) if field.init]
        alone = Cell(**{name: getattr(cell, name) for name in names})
        assert (alone.canonical, alone.identity) == (cell.canonical, cell.identity)
        assert replace(cell, budget=cell.budget + 1).identity != cell.identity
        assert alone == cell


def test_options_at_their_defaults_are_no_options():
    grid = Grid(blocks=(Block(tasks=("digits",), methods=(MethodEntry(name="ssn", options={"templates": 8}),)),))
    assert {tuple(cell.options) for cell in Expander().cells(grid)} == {()}


def test_epochs_derive_a_recipe_and_short_takes_the_tasks_own():
    grid = read_grid(write(GOOD))
    assert {c.recipe.name for c in Expander(Change(epochs=3)).cells(grid)} == {"default+epochs=3"}
    assert {c.recipe.name for c in Expander(Change(short=True)).cells(grid)} == {"short"}
    assert {c.recipe.epochs for c in Expander(Change(short=True, epochs=2)).cells(grid)} == {2}
    with pytest.raises(NpasBenchError, match="0 epochs"):
        Expander(Change(epochs=0)).cells(grid)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["a mapping with tasks"]),
        ("[1, 2]", ["a mapping with tasks"]),
        ("tasks: [digits\nmethods", ["no YAML that can be read", "line 2"]),
        ("tasks: [digits]\nmethods: [full]\ntasks: [digits]", ["the key 'tasks' twice", "line 3"]),
        ("tasks: [digits]", ["methods: Field required"]),
        ("tasks: []\nmethods: [full]", ["tasks: a list with at least one of the tasks"]),
        ("tasks: digits\nmethods: [full]", ["tasks: a list of tasks is wanted, and not 'digits'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgest: [1%]", ["unknown key 'budgest'", "budgets"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [-5%]", ["budgets: budget '-5%'", "write it as"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: 5%", ["budgets: a list"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [true]", ["True is no budget"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: 0", ["seeds: a number of seeds from 1"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [1, 1]", ["seeds: seeds are different"]),
        ("tasks: [digits]\nmethods: [{nme: ssn}]", ["methods.0", "did you mean name"]),
        ("blocks: [{tasks: [digits], methods: [full], seed: 1}]", ["blocks.0.seed", "seeds"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [true]", ["seeds: a number"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: ['2']", ["seeds: a number"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [99999999999999999999]", ["seeds: seeds are different"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: 99999999999", ["seeds: a number of seeds from 1"]),
        ("{? [a] : b}", ["a key that is no plain word"]),
        ("[" * 3000, ["nested more than 20 deep"]),
        ("[" * 30 + "]" * 30, ["nested more than 20 deep"]),
        ("blocks: []", ["blocks: a list with at least one of the blocks is wanted"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: []", ["budgets: a list with at least one of the budgets"]),
        ("tasks: [digits]\nmethods: []", ["methods: a list with at least one"]),
        ("tasks: [digits]\nmethods: [full]\narchitectures: []", ["architectures: a list with at least one"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: []", ["seeds: seeds are different"]),
        # What YAML 1.1 would take for 90, 4096, 8, 1000 and 90.5 is text, which is no budget and no seed.
        ("tasks: [digits]\nmethods: [full]\nbudgets: [1:30]", ["budgets: budget '1:30'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [010_000]", ["budgets: budget '010_000'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [0x1F]", ["budgets: budget '0x1F'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [1:30.5]", ["budgets: budget '1:30.5'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [2024-01-02]", ["budgets: budget '2024-01-02'"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [null]", ["None is no budget"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: 1:30", ["seeds", "not '1:30'"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [0o17]", ["seeds", "['0o17']"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [010]", ["seeds", "['010']"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: [1_0]", ["seeds", "['1_0']"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [12,500]", ["line 3", "12,500", "one number or two"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [1,000,000]", ["line 3", "one number or two"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [+12,500]", ["line 3", "one number or two"]),
        ("tasks: [digits]\nmethods: [full]\nbudgets: [12,500k]", ["line 3", "12,500k", "one number or two"]),
        ("tasks: [3]\nmethods: [full]", ["tasks: 3 is no name", "needs quotes"]),
        ("tasks: [digits]\nmethods: [full, ~]", ["methods: None is no name", "needs quotes"]),
        ("tasks: [digits]\nmethods: [true]", ["methods: True is no name", "needs quotes"]),
        ("tasks: [digits]\nmethods: [full]\narchitectures: [1.5]", ["architectures: 1.5 is no name", "needs quotes"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: !!int '3'", ["line 3", "the tag int"]),
        ("tasks: [digits]\nmethods: [full]\nseeds: !!float ''", ["line 3", "the tag float"]),
        ("tasks: !!set {digits}\nmethods: [full]", ["line 1", "the tag set"]),
        ("tasks: !!str [digits]\nmethods: [full]", ["line 1", "the tag str"]),
        ("tasks: !!timestamp x\nmethods: [full]", ["the tag timestamp"]),
        ("tasks: [!!python/object/apply:os.getcwd []]\nmethods: [full]", ["the tag python/object/apply:os.getcwd"]),
        ("a: &a [*a]", ["nested more than 20 deep"]),
        (ALIASES, ["aliases"]),
        ("tasks: [" + "x, " * 200_000 + "]", ["has 600,009 characters, and a grid has at most"]),
        ("tasks: [" + "x," * 60_000 + "]", ["has more than 50,000 entries"]),
        ("{" * 20_000, ["no YAML that can be read"]),
        ("\x00", ["no YAML that can be read"]),
        ("a: *nothing", ["no YAML that can be read", "nothing"]),
        ("--- a\n--- b", ["no YAML that can be read"]),
        ("block: []\nblocks: []", ["unknown key 'block'", "did you mean blocks"]),
        ("tasks: [digits]\nmethods: [full]\nrecipe: [short]", ["recipe: the name of a recipe, or a mapping"]),
        ("tasks: [digits]\nmethods: [full]\nrecipe: {name: 3}", ["recipe.name: Input should be a valid string"]),
        ("tasks: [digits]\nmethods: [full]\nrecipe: {3: 4}", ["recipe.fields.3", "valid string"]),
    ],
)
def test_a_malformed_grid_is_refused_with_its_place(text, messages):
    with pytest.raises(GridError) as caught:
        read_grid(write(text))
    assert "grid.yaml" in str(caught.value)
    for message in messages:
        assert message in str(caught.value)


def test_lists_without_blanks_are_lists_where_they_cannot_be_meant_as_one_number():
    text = "tasks: [digits]\nmethods: [full]\nbudgets: ['12','500',\"600\",5%,700]\nseeds: [1000,500,20]"
    block = read_grid(write(text)).blocks[0]
    assert (block.budgets, block.seeds) == (("12", "500", "600", "5%", "700"), (1000, 500, 20))


@pytest.mark.parametrize(
    "text",
    [
        "tasks: [digits]\nmethods: [full, reduced]\nbudgets: [5%, 6%, 7%, 8%]\nseeds: 10000\n"
        "architectures: [wrn-10-1, wrn-16-1]",
        "blocks: [" + ", ".join(["{tasks: [digits], methods: [reduced], budgets: [5%], seeds: 10000}"] * 16) + "]",
        f"tasks: [digits]\nmethods: [{'reduced, ' * 1000}]\nbudgets: [{'5%, ' * 1000}]\nseeds: 10000",
    ],
)
def test_a_grid_of_too_many_cells_is_refused_before_any_is_made(text, monkeypatch):
    monkeypatch.setattr(Expander, "task", None)
    with pytest.raises(GridError, match=r"cells are asked for, and a grid has at most 150,000"):
        Expander().cells(read_grid(write(text)))


def test_words_that_yaml_1_1_takes_for_something_else_are_names():
    grid = read_grid(write("tasks: [no]\nmethods: [on, 1:30, 2024-01-02]\narchitectures: [off]\nabout: 2024-13-45"))
    block = grid.blocks[0]
    assert (block.tasks, block.architectures, grid.about) == (("no",), ("off",), "2024-13-45")
    assert [method.name for method in block.methods] == ["on", "1:30", "2024-01-02"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(
            ("3", 3),
            ("-3", -3),
            ("+3", 3),
            ("0", 0),
            ("1e-3", 0.001),
            ("1.5", 1.5),
            (".5", 0.5),
            ("1.", 1.0),
            ("2E4", 2e4),
        ),
        *(
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("'3'", "3"),
            ('"true"', "true"),
            ("yes", "yes"),
        ),
        *(("0x10", "0x10"), ("010", "010"), ("1_0", "1_0"), ("1:30", "1:30"), ("=", "="), ("<<", "<<"), ("", None)),
        *(("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("|\n 3", "3")),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_reads_them(written, value):
    read = read_yaml(written, "it")
    assert (read, type(read)) == (value, type(value))


def test_a_mistake_is_told_once():
    for text in ("tasks: []\nmethods: [full]", "tasks: [digits]\nmethods: [full]\nbudgets: []", "blocks: [{}]"):
        with pytest.raises(GridError) as caught:
            read_grid(write(text))
        said = str(caught.value)
        assert "Tuple should have" not in said and "List should have" not in said
        assert said.count("wanted") + said.count("required") == (2 if "blocks" in text else 1)


PIECES = ["1:30", "010", "!!int", "!!set", "&a", "*a", ": ", "- ", "<<", "? ", "1e999", *"[]{}\n\t'\"|%\0é~#"]
CHARACTERS = "\0\a\x85\u2028\ufeff\ud7ff😀aZ09:-,"


# Values of which each is well-formed for some reader of YAML, and of no use or worse in a grid.
VALUES = [
    *(
        "1:30",
        "1:30.5",
        "-1:30.5",
        "190:20:30.15",
        "1:_.5",
        "._",
        "-_.",
        "+._5",
        "0x_",
        "0b",
        "012,5",
        "12,500",
        "[]",
        "{}",
    ),
    *(
        "!!float x",
        "!!float ''",
        "!!int ''",
        "!!int 1:x",
        "!!bool x",
        "!!timestamp x",
        "!!binary é",
        "!!set [a]",
        "!!null x",
    ),
    *(
        "!!omap {a: b}",
        "!!pairs [a]",
        "!!str {a: b}",
        "!!map x",
        "!!seq x",
        "2024-13-45",
        "=",
        "<<",
        "&a [*a]",
        "*b",
        "9" * 5000,
    ),
]


def mangled(draw, text):
    """A grid file with something broken in it."""
    if draw.randrange(2):
        word = draw.choice(list(re.finditer(r"[\w%]+(?=[,\]}\n])", text)))
        text = text[: word.start()] + draw.choice(VALUES) + text[word.end() :]
    for _ in range(draw.randrange(6)):
        place = draw.randrange(len(text) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            text = text[:place] + draw.choice(PIECES) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + draw.randint(1, 8) :]
        elif kind == 2:
            start = draw.randrange(len(text) + 1)
            text = text[:place] + text[start : start + draw.randint(1, 30)] + text[place:]
        else:
            text = text[:place] + draw.choice(CHARACTERS) + text[place:]
    return text


def read_mangled(seed):
    draw = random.Random(seed)  # noqa: S311
    text = mangled(draw, draw.choice((GOOD, BLOCKS)))
    with suppress(NpasBenchError):
        Expander().cells(read_grid(write(text)))


BLOCKS = """
blocks:
  - tasks: [digits]
    methods: [full, {name: ssn, options: {templates: 4, upsample: mask}}]
    budgets: [5%, 3k]
    seeds: [0, 3]
    recipe: {name: short, momentum: 0.8}
  - {tasks: [digits], architectures: [wrn-22-1], methods: [albert], budgets: [65%], seeds: 1}
"""


def test_a_thousand_malformed_grids_end_in_messages():
    for seed in range(1000):
        read_mangled(seed)


def test_unknown_names_answer_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean lowbudget"):
        read_grid("lowbuget")
    with pytest.raises(GridError, match=r"lowbudgt.yaml does not exist.*lowbudget"):
        read_grid("lowbudgt.yaml")
    for text, near in (
        ("tasks: [digit]\nmethods: [full]", "digits"),
        ("tasks: [digits]\nmethods: [sns]", "ssn"),
        ("tasks: [digits]\narchitectures: [wrm-10-1]\nmethods: [full]", "wrn"),
        ("tasks: [digits]\nmethods: [full]\nrecipe: shrt", "short"),
        ("tasks: [digits]\nmethods: [{name: ssn, options: {upsampel: mask}}]", "upsample"),
    ):
        with pytest.raises(UnknownName, match=f"did you mean {near}"):
            Expander().cells(read_grid(write(text)))


def test_an_impossible_option_is_refused_with_what_it_may_be():
    with pytest.raises(OptionError, match=r"upsample.*'mask', 'inter' or 'repeat'"):
        Expander().cells(read_grid(write("tasks: [digits]\nmethods: [{name: ssn, options: {upsample: no}}]")))


def recipes_of(recipe, **change):
    grid = read_grid(write(f"tasks: [digits]\nmethods: [full]\nrecipe: {recipe}"))
    (found,) = {cell.recipe for cell in Expander(Change(**change)).cells(grid)}
    return found


def test_a_grid_sets_any_field_of_a_recipe_by_its_name():
    named = recipes_of("{name: short, optimiser: adamw, learning_rate: 1e-3, weight_decay_factors: {biases: 0}}")
    assert named.name == 'short+learning_rate=0.001+optimiser=adamw+weight_decay_factors={"biases":0.0}'
    assert (named.epochs, named.optimiser, named.learning_rate) == (4, "adamw", 0.001)
    # Without a name it is the recipe that there would be without the mapping.
    assert recipes_of("{clip: 2, zoom: null}").name == "default+clip=2.0"
    assert recipes_of("{clip: 2}", short=True).name == "short+clip=2.0"
    assert recipes_of("{name: default, clip: 2}", short=True).name == "default+clip=2.0"
    assert recipes_of("{epochs: 15}").name == "default"
    # What the command line says goes before what the grid says.
    both = recipes_of("{epochs: 9, clip: 2}", epochs=2, fields={"clip": 3})
    assert (both.name, both.epochs, both.clip) == ("default+clip=3.0+epochs=2", 2, 3.0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "{optimizer: adam}",
            "recipe default of task digits: unknown recipe field 'optimizer': did you mean",
        ),
        (
            "{name: short, epochs: many}",
            "recipe short of task digits: epochs: 'many' is refused: Input should be",
        ),
        ("{learning_rate: true}", "learning_rate: true is not a value that it takes"),
        ("{optimiser: lion}", "optimiser: 'lion' is refused: Input should be 'sgd', 'adam', 'adamw' or 'adamax'"),
        (
            "{optimiser: adam, momentum: 0.9}",
            "momentum does not fit optimiser adam: it is for sgd; adam takes betas",
        ),
        ("{schedule: cosine, milestones: [0.5]}", "milestones does not fit schedule cosine: it is for step"),
        ("{patience: 3}", "patience means nothing without stop_metric"),
        ("{stop_metric: eror@1, validation: 0.1}", "unknown metric 'eror@1': did you mean error@1"),
        ("{stop_metric: rsum}", "unknown metric 'rsum': known: ece, error@1, error@5, nll"),
        ("{stop_metric: nll}", "stop_metric needs a validation split, which the task does not have: set validation to"),
        ("{reported: best}", "reported best needs a validation split"),
        ("{validation: 1.0}", "validation: 1.0 is refused: Input should be less than 1"),
        ("{learning_rate_factors: {text: fast}}", "learning_rate_factors.text: 'fast' is refused"),
    ],
)
def test_a_field_that_cannot_be_set_is_refused_with_what_could(recipe, message):
    with pytest.raises(RecipeError) as caught:
        recipes_of(recipe)
    assert message in str(caught.value)


def test_a_stop_rule_is_accepted_where_there_is_a_metric_and_something_to_validate_on():
    recipe = recipes_of("{stop_metric: error@1, min_delta: 0.1, patience: 3, validation: 0.2, reported: best}")
    assert recipe.validates
    assert recipe.content()["stop_metric"] == "error@1"


@pytest.mark.parametrize("name", grid_files())
def test_every_shipped_grid_expands(name):
    grid = read_grid(name)
    assert grid.about
    assert Expander().cells(grid)


def test_lowbudget_has_every_method_at_two_budgets_or_more_with_three_seeds():
    cells = Expander().cells(read_grid("lowbudget"))
    assert {cell.method for cell in cells} == set(plugins.methods.names())
    assert {cell.seed for cell in cells} == {0, 1, 2}
    for method in plugins.methods.names():
        budgets = {cell.budget for cell in cells if cell.method == method}
        assert len(budgets) >= (1 if plugins.methods.load(method).whole else 2)


@given(
    st.lists(st.sampled_from(["full", "reduced", "ssn"]), min_size=1, max_size=5),
    st.lists(st.integers(1, 400).map(lambda n: f"{n}%"), min_size=1, max_size=4),
    st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True),
)
def test_expansion_has_no_cell_twice_and_all_that_were_asked_for(methods, budgets, seeds):
    block = Block(
        tasks=("digits",), methods=tuple(MethodEntry(name=m) for m in methods), budgets=budgets, seeds=tuple(seeds)
    )
    cells = Expander().cells(Grid(blocks=(block,)))
    assert len({cell.identity for cell in cells}) == len(cells)
    asked = {(m, s, "100%" if m == "full" else b) for m in methods for s in seeds for b in budgets}
    assert {(c.method, c.seed, c.budget_text) for c in cells} == asked
