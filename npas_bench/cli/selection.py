"""The options that choose cells, which `run` and `plan` share, and the cells that they choose."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from npas_bench.cli.completion import grid_names, method_names, task_names
from npas_bench.cli.console import errors
from npas_bench.errors import DatabaseError, GridError, NpasBenchError, OptionError, RecipeError

if TYPE_CHECKING:
    from npas_bench.cells.grid import Grid
    from npas_bench.database.grids import GridRuns
    from npas_bench.database.location import Location
    from npas_bench.leaderboard.which import Which
    from npas_bench.runner.planned import PlannedCell

log = logging.getLogger(__name__)

# The largest number that a run can have, and the most rows that anybody asks for.
LAST_RUN = 2**31 - 1
MOST_ROWS = 10**9

RunNumber = Annotated[int, typer.Argument(metavar="RUN", max=LAST_RUN, help="Number of the run.")]
GridName = Annotated[
    str | None,
    typer.Option("--grid", metavar="NAME|FILE", help="Name of a grid, or a YAML file.", autocompletion=grid_names),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="NAME", help="Name of a task. Repeatable.", autocompletion=task_names),
]
Architectures = Annotated[
    list[str] | None,
    typer.Option("--architecture", metavar="NAME", help="Name of an architecture [default: the task's]. Repeatable."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="NAME", help="Name of a method. Repeatable.", autocompletion=method_names),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the method, where one is given. Repeatable."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", metavar="BUDGET", help="Budget, such as 10%, 4x, 3.65M or 365000 [default: 100%]. Repeatable."
    ),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", metavar="N", help="Number of seeds, which count from 0 [default: 3].")
]
SeedList = Annotated[list[int] | None, typer.Option("--seed", metavar="SEED", help="A seed. Repeatable.")]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FIELD=VALUE",
        help="A recipe of the task [default: default], or a field of the recipe to change. Repeatable.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Train for N epochs, which is a recipe of its own.")
]
Parts = Annotated[
    int | None,
    typer.Option("--parts", metavar="N", help="Compute every batch in N parts, which is a recipe of its own."),
]


class PrecisionName(StrEnum):
    """The number formats of forward and backward passes."""

    fp32 = "fp32"
    bf16 = "bf16"


Precision = Annotated[
    PrecisionName | None, typer.Option("--precision", help="Number format to compute in, which is a recipe of its own.")
]
Short = Annotated[bool, typer.Option("--short", help="Train by the short recipes of the tasks.")]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Device to train on: auto, cpu, cuda or cuda:N.")
]
Database = Annotated[
    str | None,
    typer.Option("--db", metavar="FILE|URL", help="Results database [default: $NPAS_BENCH_DB or runs.db]."),
]


class Selection(NamedTuple):
    """The options by which a user chose cells, and whether the cells run on other machines too."""

    grid: str | None
    tasks: list[str] | None
    architectures: list[str] | None
    methods: list[str] | None
    options: list[str] | None
    budgets: list[str] | None
    seeds: int | None
    seed_list: list[int] | None
    recipes: list[str] | None
    epochs: int | None
    parts: int | None
    precision: PrecisionName | None
    short: bool
    device: str
    elsewhere: bool = False


def planned_cells(selection: Selection) -> list[PlannedCell]:
    """The cells that a user chose, with the data and the device that they would run on.

    Raises:
        NpasBenchError: if a name, budget or option is wrong, data is missing, or there is no such device.
    """
    from npas_bench.cells.recipes import Change
    from npas_bench.runner.launch import plan_cells

    recipe, fields = _recipe(selection.recipes)
    precision = selection.precision.value if selection.precision else None
    change = Change(
        short=selection.short, epochs=selection.epochs, parts=selection.parts, precision=precision, fields=fields
    )
    return plan_cells(_grid(selection, recipe), change, selection.device, elsewhere=selection.elsewhere)


def _grid(selection: Selection, recipe: str | None) -> Grid:
    from npas_bench.budget import Budget
    from npas_bench.cells.grid import Block, Grid, MethodEntry, read_grid
    from npas_bench.cells.recipes import RecipeEntry

    parts = {
        "--task": selection.tasks,
        "--architecture": selection.architectures,
        "--method": selection.methods,
        "--option": selection.options,
        "--budget": selection.budgets,
        "--seeds": selection.seeds,
        "--seed": selection.seed_list,
        f"--recipe {recipe}": recipe,
    }
    if selection.grid is not None:
        also = [name for name, value in parts.items() if value is not None]
        if also:
            raise NpasBenchError(f"--grid already says which cells to run: leave out {', '.join(also)}")
        return read_grid(selection.grid)
    if not selection.tasks or not selection.methods:
        raise NpasBenchError("name a grid with --grid (npas-bench list grids), or a --task and a --method")
    if recipe is not None and selection.short:
        raise NpasBenchError("--short and --recipe both name a recipe: leave one out")
    if selection.seeds is not None and selection.seed_list:
        raise NpasBenchError("--seeds and --seed both name seeds: leave one out")
    if selection.options and len(selection.methods) > 1:
        raise OptionError("--option goes with a single --method; write a grid file for several")
    block = Block(
        tasks=tuple(selection.tasks),
        architectures=tuple(selection.architectures) if selection.architectures else None,
        methods=tuple(MethodEntry(name=name, options=_options(selection.options)) for name in selection.methods),
        budgets=tuple(Budget.parse(text).text for text in selection.budgets or ["100%"]),
        seeds=_seeds(selection),
        recipe=None if recipe is None else RecipeEntry(name=recipe),
    )
    return Grid(blocks=(block,))


def _seeds(selection: Selection) -> tuple[int, ...]:
    from npas_bench.budget import LARGEST
    from npas_bench.cells.grid import MOST_SEEDS

    if selection.seed_list:
        if min(selection.seed_list) < 0 or max(selection.seed_list) >= LARGEST:
            raise NpasBenchError(f"--seed takes a number from 0 to {LARGEST - 1:,}")
        return tuple(dict.fromkeys(selection.seed_list))
    count = 3 if selection.seeds is None else selection.seeds
    if not 1 <= count <= MOST_SEEDS:
        raise NpasBenchError(f"--seeds takes a number from 1 to {MOST_SEEDS:,}")
    return tuple(range(count))


def runs_of_grid(grid: str | None, location: Location) -> GridRuns | None:
    """The runs that belong to a grid, which may be one that is not here and is only noted with runs.

    Args:
        grid: name of a grid, path of its file, or what runs have noted; None for no grid.
        location: the place of the database.

    Raises:
        GridError: if there is such a file, and it is no grid.
    """
    from npas_bench.cells.grid import Expander, is_grid, read_grid
    from npas_bench.database.grids import GridRuns, noted_name

    if grid is None:
        return None
    noted = noted_name(grid, location)
    if not is_grid(grid):
        return GridRuns(grid, tuple(dict.fromkeys((grid, noted))))
    content = read_grid(grid)
    try:
        return GridRuns(grid, (noted,), True, tuple(Expander().cells(content)))
    except NpasBenchError as error:
        # A plugin may be missing on this machine, and not on those that run the grid.
        log.warning("which cells grid %s has cannot be told (%s): only runs that were begun for it count", grid, error)
        return GridRuns(grid, (noted,), True)


def database_to_read(db: str | None, source: Which) -> Location:
    """The database that a user's own results are read from, which need not exist unless it was named.

    Where NPAS_BENCH_DB names one that does not exist, a warning says so: it may be made later.

    Raises:
        DatabaseError: if it was named with --db, and does not exist.
    """
    from npas_bench.database.opening import locate
    from npas_bench.leaderboard.which import Which

    location = locate(db)
    missing = source is not Which.published and location.path is not None and not location.there()
    if missing and db is not None:
        raise DatabaseError(f"database {location} does not exist: name one that does, or leave --db out")
    if missing and os.environ.get("NPAS_BENCH_DB"):
        said = f"warning: database {location} does not exist, which NPAS_BENCH_DB names"
        errors.print(said, style="yellow", soft_wrap=True)
    return location


def _recipe(written: list[str] | None) -> tuple[str | None, dict[str, Any]]:
    """The name of the recipe that `--recipe` gives, if it does, and the fields that it changes."""
    names = [text for text in written or [] if "=" not in text]
    if len(names) > 1:
        raise RecipeError(f"--recipe names {' and '.join(names)}: a cell has one recipe; leave one out")
    fields: dict[str, Any] = {}
    for text in written or []:
        if "=" in text:
            field, value = _pair("--recipe", "FIELD=VALUE", text)
            if field in fields:
                raise RecipeError(f"--recipe sets {field} twice: leave one out")
            fields[field] = value
    return (names[0] if names else None), fields


def _options(written: list[str] | None) -> dict[str, Any]:
    return dict(_pair("--option", "KEY=VALUE", pair) for pair in written or [])


def _pair(option: str, form: str, written: str) -> tuple[str, Any]:
    """A key and its value, which is read as YAML."""
    from npas_bench.cells.yaml_text import read_yaml

    key, equals, value = written.partition("=")
    if not equals or not key:
        raise OptionError(f"{option} '{written}' is not of the form {form}")
    try:
        return key, read_yaml(value, f"{option} '{written}'")
    except GridError as error:
        raise OptionError(str(error)) from None
