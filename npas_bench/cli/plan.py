"""The command `npas-bench plan`, which shows what a run would do and how long it would take."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.cli.plan_rows import FINAL, NOT_KNOWN, WOULD_FAIL, Preview, Row
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from npas_bench.forecast.forecast import Estimate, Forecast
    from npas_bench.runner.planned import PlannedCell

# The most rows of which every one is looked at, whether or not it is shown.
_PREVIEWED = 200
_MOST_WORKERS = 100_000
# The most scalars of an architecture that is built for a plan where its method cannot do without values.
_BUILT_FOR_A_PLAN = 20_000_000


def plan(
    grid: choose.GridName = None,
    task: choose.Tasks = None,
    architecture: choose.Architectures = None,
    method: choose.Methods = None,
    option: choose.MethodOptions = None,
    budget: choose.Budgets = None,
    seeds: choose.Seeds = None,
    seed: choose.SeedList = None,
    recipe: choose.Recipes = None,
    epochs: choose.Epochs = None,
    parts: choose.Parts = None,
    precision: choose.Precision = None,
    short: choose.Short = False,
    device: choose.Device = "auto",
    db: choose.Database = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=_MOST_WORKERS,
            help="Number of CPU threads, or of GPUs, to run on [default: all of this machine].",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, max=choose.MOST_ROWS, help="Number of rows to show.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a run would do: its cells, their parameters, what is supported or done, and what it would take.

    Time and memory are learned from the finished runs of the database and of the published board, and counted
    from the networks' operations where there are none.
    """
    from npas_bench.cli.terminal.plans import print_outlook, print_rows
    from npas_bench.database.access import opened_if_there
    from npas_bench.database.opening import locate
    from npas_bench.database.runs import newest_runs
    from npas_bench.forecast.learned import learned_forecast
    from npas_bench.forecast.outlook import lanes_here, look_out
    from npas_bench.runner.plugin_changes import plugin_changes

    planned = choose.planned_cells(
        choose.Selection(
            grid=grid,
            tasks=task,
            architectures=architecture,
            methods=method,
            options=option,
            budgets=budget,
            seeds=seeds,
            seed_list=seed,
            recipes=recipe,
            epochs=epochs,
            parts=parts,
            precision=precision,
            short=short,
            device=device,
        )
    )
    location = locate(db)
    keys = [one.key for one in planned]
    with opened_if_there(location) as database:
        newest = newest_runs(database, keys) if database else {}
        changes = plugin_changes(planned, newest, database, location.work_folder) if database else []
        forecast = learned_forecast(database, planned[0].device)
    states: list[str] = [newest[key].state if key in newest else "to run" for key in keys]
    estimates = forecast.all(planned)
    groups = _alike(planned)
    looked_at = groups if as_json or len(groups) <= _PREVIEWED else groups[: max(limit, _PREVIEWED)]
    rows = [_row(group, planned, states, estimates) for group in looked_at]
    idle = {index for row in rows if row.runs_to_nothing for index in row.cells}
    left = [index for index, state in enumerate(states) if state not in FINAL]
    running = [index for index in left if index not in idle]
    outlook = look_out(
        [planned[index] for index in running],
        [estimates[index] for index in running],
        workers or lanes_here(planned[0].device),
    )
    of_what: Counter[str] = Counter(estimates[index].basis for index in running)
    if as_json:
        head = {"cells": len(planned), "to_run": len(running), "device": planned[0].device, "database": str(location)}
        outline = {"outlook": outlook._asdict(), "basis": dict(of_what), "past": _past(forecast)}
        plugins_told = {"changed_plugins": [str(change) for change in changes]}
        output.print_json(data=head | outline | plugins_told | {"kinds": [_as_json(row) for row in rows]})
        return
    if rows:
        print_rows(output, rows[:limit])
    if len(groups) > limit:
        rest = sum(map(len, groups[limit:]))
        output.print(f"and {len(groups) - limit:,} more rows, of {rest:,} cells: show them with --limit N\n")
    told = [f"{len(planned):,} cells", f"{len(running):,} to run"]
    told += [f"{count:,} {trouble}" for trouble, count in _troubles(rows, states).items()]
    output.print(f"{', '.join(told)}, on {planned[0].device}; results in {location}", soft_wrap=True)
    unseen = sum(map(len, groups[len(looked_at) :]))
    if unseen:
        output.print(f"Of {unseen:,} of these cells the budget was not looked at.", style="dim")
    for change in changes:
        output.print(str(change), style="yellow", highlight=False, soft_wrap=True)
    if running:
        print_outlook(output, outlook, planned[0].device, forecast, of_what)


def _troubles(rows: list[Row], states: list[str]) -> Counter[str]:
    """How many cells that are not finished would come to nothing, by what goes wrong."""
    return Counter(
        row.preview.trouble
        for row in rows
        if row.runs_to_nothing and row.preview.trouble
        for index in row.cells
        if states[index] not in FINAL
    )


def _alike(planned: list[PlannedCell]) -> list[list[int]]:
    """Groups of the indices of cells that differ in their seed alone, in order."""
    # Cells are grouped by shared objects first, since comparing the recipes of a hundred thousand cells takes long.
    shared: dict[tuple[object, ...], list[int]] = {}
    for index, one in enumerate(planned):
        cell = one.cell
        key = (cell.task, cell.architecture, cell.method, id(cell.options), cell.budget, id(cell.recipe))
        shared.setdefault(key, []).append(index)
    groups: dict[tuple[object, ...], list[int]] = {}
    for indices in shared.values():
        cell = planned[indices[0]].cell
        groups.setdefault((cell.task, cell.architecture, cell.method_label, cell.budget, cell.recipe), []).extend(
            indices
        )
    return list(groups.values())


def _row(group: list[int], planned: list[PlannedCell], states: list[str], estimates: list[Estimate]) -> Row:
    first = group[0]
    return Row(planned[first], group, Counter(states[i] for i in group), estimates[first], _preview(planned[first]))


def _preview(one: PlannedCell) -> Preview:
    from npas_bench.errors import PluginError
    from npas_bench.runner.containment import contained_here

    try:
        with contained_here(one.cell.task, one.cell.architecture, one.cell.method):
            return _previewed(one)
    # A plugin that tries to end the program is kept from it.
    except PluginError as error:
        return Preview(None, WOULD_FAIL, str(error))


def _previewed(one: PlannedCell) -> Preview:
    from npas_bench import plugins
    from npas_bench.errors import NpasBenchError, UnsupportedBudget
    from npas_bench.runner.build import build_network, problem_of

    task = plugins.task(one.cell.task)
    try:
        method = plugins.method(one.cell.method, one.cell.options)
        return Preview(method.preview(problem_of(one.cell, task)).check(str(one.cell)).total, None, None)
    except UnsupportedBudget as unsupported:
        return Preview(None, RunState.UNSUPPORTED, str(unsupported))
    except NpasBenchError as error:
        return Preview(None, WOULD_FAIL, f"{type(error).__name__}: {error}")
    # A method may fail in any way, and without values it may fail where a run would not.
    except Exception as error:
        if one.full > _BUILT_FOR_A_PLAN:
            return Preview(None, NOT_KNOWN, f"it cannot be built without values ({type(error).__name__}: {error})")
    try:
        return Preview(build_network(one.cell, task).ledger.total, None, None)
    except UnsupportedBudget as unsupported:
        return Preview(None, RunState.UNSUPPORTED, str(unsupported))
    except Exception as error:
        return Preview(None, WOULD_FAIL, f"{type(error).__name__}: {error}")


def _past(forecast: Forecast) -> dict[str, Any]:
    past = forecast.hindcast()
    return {"runs": forecast.runs, "factor": past.factor, "known": past.known._asdict(), "new": past.new._asdict()}


def _as_json(row: Row) -> dict[str, Any]:
    cell = row.first.cell
    return {
        **{"task": cell.task, "architecture": cell.architecture, "recipe": cell.recipe.name, "method": cell.method},
        **{"options": dict(cell.options), "budget": cell.budget, "budget_text": cell.budget_text},
        **{"cells": len(row.cells), "states": dict(row.states)},
        **row.preview._asdict(),
        **row.estimate._asdict(),
    }
