"""Grids, which are YAML files that name one or several products of cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from npas_bench import plugins
from npas_bench.budget import LARGEST, Budget
from npas_bench.cells.cell import Cell
from npas_bench.cells.grid_files import grid_files
from npas_bench.cells.recipes import Change, RecipeEntry, chosen_recipe
from npas_bench.cells.yaml_text import MOST_BYTES, read_yaml
from npas_bench.errors import BudgetError, DataError, GridError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from npas_bench.architectures import Architecture
    from npas_bench.methods import Method
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import DataVersion, Task


MOST_SEEDS = 10_000
MOST_CELLS = 150_000
_SHOWN = 60


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _listed(value: Any, what: str) -> Any:
    """Refuse what is no list, and a list of nothing, in words of the grid's own."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of {what} is wanted, and not {_shown(value)}")
    if not value:
        raise ValueError(f"a list with at least one of the {what} is wanted")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class MethodEntry(_Strict):
    """A method in a grid: its name, or its name with options."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Block(_Strict):
    """One product of cells.

    Attributes:
        tasks: names of tasks.
        architectures: names of architectures; None takes each task's default.
        methods: names of methods, or mappings of `name` and `options`.
        budgets: budgets as in `10%`, `4x`, `3.65M`, `365k`, `365000`; methods that train the whole architecture run
            once, at 100 %.
        seeds: the number of seeds, which count from 0, or a list of seeds.
        recipe: name of a recipe of the task, or a mapping of fields to change, with the `name` of the recipe that is
            changed; left out, the task's default for the architecture.
    """

    tasks: tuple[str, ...]
    architectures: tuple[str, ...] | None = None
    methods: tuple[MethodEntry, ...]
    budgets: tuple[str, ...] = ("100%",)
    seeds: tuple[int, ...] = (0, 1, 2)
    recipe: RecipeEntry | None = None

    @field_validator("tasks", "architectures", "methods", mode="before")
    @classmethod
    def _lists(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name == "architectures":
            return None
        named = (str, dict, MethodEntry) if info.field_name == "methods" else (str,)
        for name in _listed(value, str(info.field_name)):
            if not isinstance(name, named):
                raise ValueError(f"{_shown(name)} is no name: what looks like a number or a word of YAML needs quotes")
        return value

    @field_validator("budgets", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        _listed(value, "budgets")
        texts = []
        for written in value:
            if isinstance(written, bool) or not isinstance(written, str | int | float):
                raise ValueError(f"{_shown(written)} is no budget")
            try:
                texts.append(Budget.parse(written).text)
            except BudgetError as error:
                raise ValueError(str(error)) from None
        return texts

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= MOST_SEEDS:
                raise ValueError(f"a number of seeds from 1 to {MOST_SEEDS:,} is wanted")
            return tuple(range(value))
        if not isinstance(value, list | tuple) or any(type(seed) is not int for seed in value):
            raise ValueError(f"a number of seeds, or a list of seeds, is wanted, and not {_shown(value)}")
        return value

    @field_validator("seeds")
    @classmethod
    def _proper_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 0 or max(value) >= LARGEST or len(set(value)) != len(value):
            raise ValueError(f"seeds are different numbers from 0 to {LARGEST - 1:,}")
        return value


class Grid(_Strict):
    """One or several products of cells.

    Attributes:
        about: what the grid is for, in a line.
        blocks: the products.
        beside: the papers' tables that its results are compared with, as `plummer2022npas Table 5`.
    """

    about: str = ""
    blocks: tuple[Block, ...]
    beside: tuple[str, ...] = ()

    @field_validator("blocks", mode="before")
    @classmethod
    def _some_blocks(cls, value: Any) -> Any:
        return _listed(value, "blocks")

    @model_validator(mode="before")
    @classmethod
    def _one_block(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "blocks" in value:
            return value
        outer = {key: value[key] for key in ("about", "beside") if key in value}
        return outer | {"blocks": [{key: entry for key, entry in value.items() if key not in outer}]}


def is_grid(name: str) -> bool:
    """Tell whether a grid is known by a name, or something lies at the path of its file, readable or not."""
    if not Path(name).suffix:
        return name in grid_files()
    try:
        return Path(name).exists()
    except OSError:
        # Whoever reads it is told why that is not possible.
        return True


def read_grid(name: str) -> Grid:
    """Read the grid that has a name, or the file that has a path.

    Raises:
        GridError: if the file cannot be read or is malformed; the message names file and place.
        UnknownName: if it is neither a file nor a known name.
    """
    path = Path(name)
    if not path.suffix:
        known = grid_files()
        if name not in known:
            raise UnknownName("grid", name, known, remedy="a grid file's name ends in .yaml")
        path = known[name][0]
    where = f"grid file {path}"
    try:
        if path.stat().st_size > 4 * MOST_BYTES or not path.is_file():
            raise GridError(f"{where} is no file of at most {MOST_BYTES:,} characters, as grids are")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = UnknownName("grid", path.stem, grid_files())
        raise GridError(f"{where} does not exist; {near}") from None
    except (OSError, ValueError) as error:
        raise GridError(f"{where} cannot be read: {error}") from None
    return parse_grid(read_yaml(text, where), where)


def parse_grid(content: Any, where: str) -> Grid:
    """The grid that a mapping describes, as a grid file does.

    Args:
        content: the mapping.
        where: what the content is, as messages call it.

    Raises:
        GridError: if the content is malformed; the message names the place in it.
    """
    if not isinstance(content, dict):
        raise GridError(f"{where}: a mapping with tasks, methods and budgets is wanted")
    try:
        return Grid.model_validate(content)
    except ValidationError as error:
        raise GridError(f"{where}: {_explain(error, 'blocks' in content)}") from None


def _explain(error: ValidationError, blocks: bool) -> str:
    problems = []
    for problem in error.errors():
        # The single block of a plain grid is not written in the file: its place is the key alone.
        place = problem["loc"] if blocks else problem["loc"][2:] or problem["loc"]
        if problem["type"] == "extra_forbidden":
            known = Grid.model_fields if len(place) == 1 and blocks else Block.model_fields
            if place and place[-2:-1] and isinstance(place[-2], int) and "methods" in place:
                known = MethodEntry.model_fields
            problems.append(str(UnknownName("key", str(place[-1]), known, remedy=f"at {_path(place)}")))
        else:
            problems.append(f"{_path(place)}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def _path(place: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in place)


def _product(block: Block) -> int:
    """How many cells a block lists, those that are the same included."""
    lists = (block.tasks, block.architectures or (None,), block.methods, block.budgets, block.seeds)
    return prod(map(len, lists))


@dataclass
class Expander:
    """Turns grids into cells, loading each task, method and architecture once."""

    change: Change = field(default_factory=Change)
    _tasks: dict[str, Task] = field(default_factory=dict)
    _architectures: dict[str, Architecture] = field(default_factory=dict)
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)

    def cells(self, grid: Grid) -> list[Cell]:
        """Every cell of the grid once, in the grid's order.

        Raises:
            NpasBenchError: if a name is unknown, a budget, option or recipe is not possible, or cells are too many.
        """
        many = sum(map(_product, grid.blocks))
        if many > MOST_CELLS:
            raise GridError(
                f"{many:,} cells are asked for, and a grid has at most {MOST_CELLS:,}: divide it into several"
            )
        found: dict[str, Cell] = {}
        for block in grid.blocks:
            for cell in self._block(block):
                found.setdefault(cell.identity, cell)
        return list(found.values())

    def task(self, name: str) -> Task:
        """The task called `name`."""
        if name not in self._tasks:
            self._tasks[name] = plugins.task(name)
        return self._tasks[name]

    def architecture(self, name: str) -> Architecture:
        """The architecture called `name`."""
        if name not in self._architectures:
            self._architectures[name] = plugins.architecture(name)
        return self._architectures[name]

    def full_size(self, task: Task, architecture: Architecture) -> int:
        """Trainable scalars of the full architecture on a task."""
        key = (task.name, architecture.name)
        if key not in self._sizes:
            with plugins.families.asked(plugins.family_of(architecture.name)):
                self._sizes[key] = architecture.size(task.signature)
        return self._sizes[key]

    def source(self, name: str) -> DataVersion:
        """The version of a task's data that this machine has.

        Raises:
            DataError: if the data is missing or damaged, or has no training split.
        """
        task, plain = self.task(name), name.partition(":")[0]
        with plugins.tasks.asked(plain):
            source, splits = task.source(), task.splits()
        plugins.tasks.expect(plain, "source", source, "npas_bench.tasks:DataVersion")
        if "train" not in splits:
            raise DataError(f"task {name}: the training split is missing, and nothing can be trained without it")
        return source

    def _block(self, block: Block) -> Iterator[Cell]:
        """The cells of a product, seed by seed, so that all methods have results early and share drifting times."""
        methods = [self._method(entry) for entry in block.methods]
        for task in map(self.task, block.tasks):
            for architecture in self._architectures_of(block, task):
                recipe = self._recipe(task, architecture, block.recipe)
                full = self.full_size(task, architecture)
                firsts = [
                    Cell(
                        task=task.name,
                        task_version=task.version,
                        architecture=architecture.name,
                        method=method.name,
                        method_version=method.version,
                        options=options,
                        budget=Budget.parse(text).resolve(full),
                        recipe=recipe,
                        seed=block.seeds[0],
                        budget_text=text,
                    )
                    for method, options in methods
                    for text in (("100%",) if method.whole else block.budgets)
                ]
                for seed in block.seeds:
                    yield from (cell.of_seed(seed) for cell in firsts)

    def _architectures_of(self, block: Block, task: Task) -> list[Architecture]:
        with plugins.tasks.asked(task.name.partition(":")[0]):
            names = block.architectures or (task.architecture,)
        return [self.architecture(name) for name in names]

    def _recipe(self, task: Task, architecture: Architecture, entry: RecipeEntry | None) -> Recipe:
        plugins.check_fit(task, architecture)
        with plugins.tasks.asked(task.name.partition(":")[0]):
            return chosen_recipe(task, architecture.name, entry, self.change)

    def _method(self, entry: MethodEntry) -> tuple[Method, Mapping[str, Any]]:
        method = plugins.method(entry.name, entry.options)
        with plugins.methods.asked(entry.name):
            return method, method.options.model_dump(mode="json", exclude_defaults=True)
