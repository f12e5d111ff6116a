"""Cells that are run from a script or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from npas_bench.cells.grid import parse_grid, read_grid
from npas_bench.cells.recipes import Change
from npas_bench.database.access import opened
from npas_bench.database.opening import locate
from npas_bench.errors import NpasBenchError
from npas_bench.results import results_of
from npas_bench.runner.launch import ExecutorChoice, Launch, launch, plan_cells
from npas_bench.runner.progress import QuietReporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from npas_bench.cells.grid import Grid
    from npas_bench.runner.progress import Reporter


def run_cells(
    grid: str | Path | Mapping[str, Any] | None = None,
    *,
    tasks: str | Sequence[str] | None = None,
    methods: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
    architectures: str | Sequence[str] | None = None,
    budgets: str | float | Sequence[str | float] | None = None,
    seeds: int | Sequence[int] | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    db: str | Path | None = None,
    executor: ExecutorChoice = "inline",
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Run the cells of a grid that have no result yet, and return the results of all of them.

    This is what `npas-bench run` does: cells are the product of tasks, architectures, methods, budgets and seeds,
    results are kept in a database, finished cells are not run again, and what was interrupted goes on from its last
    epoch.

    Args:
        grid: name of a grid, path of a YAML file, or a mapping with the content of one; left out, the keywords below
            say which cells to run.
        tasks: name of a task, or several.
        methods: name of a method, a mapping of its `name` and `options`, or several of both.
        architectures: name of an architecture, or several; left out, each task's default.
        budgets: as `"10%"`, `"4x"`, `"365k"` or a number of scalars, or several; left out, 100 %.
        seeds: how many seeds, from 0, or a list of seeds; left out, 3.
        recipe: name of a recipe of the task, or a mapping of the fields to change, with the `name` of the recipe that
            is changed where that is not the default. With a grid, fields alone: they are changed for all of its cells.
        db: the results database, a file or a URL; left out, `$NPAS_BENCH_DB` or `runs.db` in the working directory.
        executor: `inline` runs one cell after the other in this process, `ray` as many at a time as the machine takes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: whether to show how the cells get on.

    Returns:
        A data frame with a row for each cell that ended, in the order of the grid, and with the columns that
        `load_results` describes. A cell that failed is a row whose `state` is `failed` and whose `message` says why; a
        cell that somebody cancelled in the meantime has no row.

    Raises:
        NpasBenchError: if a name, a budget, an option or a recipe is wrong, data is missing, or the database cannot be
            used; nothing is run then.
    """
    if executor not in get_args(ExecutorChoice):
        raise NpasBenchError(f"run_cells: executor '{executor}' is neither inline nor ray")
    keywords = {
        "tasks": _listed(tasks),
        "architectures": _listed(architectures),
        "methods": _listed(methods),
        "budgets": _listed(budgets),
        "seeds": seeds if seeds is None or isinstance(seeds, int) else list(seeds),
    }
    given = {name: value for name, value in keywords.items() if value is not None}
    if grid is None:
        chosen, change = _product(given, recipe), Change()
    else:
        chosen, change = _written(grid, given), _change(recipe)
    planned = plan_cells(chosen, change, device)
    location = locate(None if db is None else str(db))
    name = str(grid) if grid is not None and not isinstance(grid, Mapping) else None
    launch(planned, location, _reporter(progress), Launch(grid=name, executor=executor))
    with opened(location) as database:
        return results_of(database, [one.key for one in planned])


def _product(given: Mapping[str, Any], recipe: str | Mapping[str, Any] | None) -> Grid:
    missing = [name for name in ("tasks", "methods") if name not in given]
    if missing:
        raise NpasBenchError(f"run_cells needs {' and '.join(missing)}, or a grid")
    entry = {} if recipe is None else {"recipe": recipe if isinstance(recipe, str) else dict(recipe)}
    return parse_grid({**given, **entry}, "run_cells")


def _written(grid: str | Path | Mapping[str, Any], given: Mapping[str, Any]) -> Grid:
    if given:
        raise NpasBenchError(f"run_cells: the grid already says which cells to run; leave out {', '.join(given)}")
    return parse_grid(dict(grid), "run_cells: grid") if isinstance(grid, Mapping) else read_grid(str(grid))


def _change(recipe: str | Mapping[str, Any] | None) -> Change:
    """What is changed about the recipes of a grid, which names its own."""
    if recipe is None:
        return Change()
    if isinstance(recipe, str) or "name" in recipe:
        name = recipe if isinstance(recipe, str) else recipe["name"]
        raise NpasBenchError(f"run_cells: the grid already names its recipes; leave out {name}, or set fields alone")
    return Change(fields=dict(recipe))


def _listed(value: Any) -> list[Any] | None:
    """One thing or several of them, as a list."""
    if value is None:
        return None
    alone = isinstance(value, (str, int, float, Mapping))
    return [_plain(value)] if alone else [_plain(one) for one in value]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _reporter(progress: bool) -> Reporter:
    if not progress:
        return QuietReporter()
    from npas_bench.cli.console import PlainConsole
    from npas_bench.cli.streams import Guarded
    from npas_bench.cli.terminal.progress import reporter_for

    shown: Any = Guarded(sys.stderr, "standard error", heard=False)
    return reporter_for(PlainConsole(shown))
