"""`npas-bench plan`: what a run would do, and what it would take."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.forecast.forecast import Estimate, Forecast
    from npas_bench.forecast.outlook import Outlook
    from npas_bench.runner.planned import PlannedCell

_FINAL: set[str] = {state for state in RunState if state.final}
_BASES = {"runs": "runs of their kind", "neighbours": "similar runs", "operations": "their operations alone"}


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
            metavar="N", min=1, help="Number of CPU threads, or of GPUs, to run on [default: all of this machine]."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Number of rows to show.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a run would do: its cells, their parameters, what is supported or done, and what it would take.

    Time and memory are learned from the finished runs of the database and of the published board, and counted
    from the networks' operations where there are none.
    """
    from npas_bench.database.access import opened_if_there
    from npas_bench.database.opening import locate
    from npas_bench.database.runs import newest_runs
    from npas_bench.forecast.learned import learned_forecast
    from npas_bench.forecast.outlook import lanes_here, look_out

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
        forecast = learned_forecast(database, planned[0].device)
    states: list[str] = [newest[key].state if key in newest else "to run" for key in keys]
    estimates = forecast.all(planned)
    groups = _alike(planned)
    rows = [_row(group, planned, states, estimates) for group in (groups if as_json else groups[:limit])]
    idle = {index for row in rows if row.preview.trouble for index in row.cells}
    left = [index for index, state in enumerate(states) if state not in _FINAL]
    running = [index for index in left if index not in idle]
    outlook = look_out(
        [planned[index] for index in running],
        [estimates[index] for index in running],
        workers or lanes_here(planned[0].device),
    )
    of_what: Counter[str] = Counter(estimates[index].basis for index in running)
    if as_json:
        head = {"cells": len(planned), "to_run": len(left), "device": planned[0].device, "database": str(location)}
        outline = {"outlook": outlook._asdict(), "basis": dict(of_what), "past": _past(forecast)}
        output.print_json(data=head | outline | {"kinds": [_as_json(row) for row in rows]})
        return
    if rows:
        _show_rows(rows)
    if len(groups) > len(rows):
        rest = sum(map(len, groups[len(rows) :]))
        output.print(f"and {len(groups) - len(rows):,} more rows, of {rest:,} cells: show them with --limit N\n")
    output.print(
        f"{len(planned):,} cells, {len(left):,} to run, on {planned[0].device}; results in {location}", soft_wrap=True
    )
    if running:
        _show_outlook(outlook, planned[0].device, forecast, of_what)


class Preview(NamedTuple):
    """A cell counted without training: its parameters; what is wrong with it, and why."""

    parameters: int | None
    trouble: str | None
    reason: str | None


class Row(NamedTuple):
    """Cells that differ in their seed alone.

    Attributes:
        first: the first of them.
        cells: their indices.
        states: how many are in which state.
        estimate: of each.
    """

    first: PlannedCell
    cells: list[int]
    states: dict[str, int]
    estimate: Estimate
    preview: Preview

    @property
    def state(self) -> str:
        """As it is shown."""
        if self.preview.trouble is not None and not self.states.keys() <= _FINAL:
            return self.preview.trouble
        return ", ".join(f"{n} {state}" if len(self.states) > 1 else state for state, n in self.states.items())


def _alike(planned: list[PlannedCell]) -> list[list[int]]:
    """Indices of cells that differ in their seed alone, in order."""
    # First by what the cells of a grid's block share: comparing recipes of a hundred thousand takes long.
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
    from npas_bench import plugins
    from npas_bench.errors import UnsupportedBudget
    from npas_bench.runner.build import problem_of

    method = plugins.methods.load(one.cell.method)(one.cell.options)
    problem = problem_of(one.cell, plugins.task(one.cell.task))
    try:
        return Preview(method.preview(problem).total, None, None)
    except UnsupportedBudget as unsupported:
        return Preview(None, RunState.UNSUPPORTED, str(unsupported))
    # A method may fail in any way whatever; a run would store the cell as failed and go on.
    except Exception as error:
        return Preview(None, "would fail", f"{type(error).__name__}: {error}")


def _show_rows(rows: Sequence[Row]) -> None:
    """A table for each task, architecture and recipe, as boards have them."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    tables: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        cell = row.first.cell
        tables.setdefault((cell.task, cell.architecture, cell.recipe), []).append(row)
    for some in tables.values():
        cell, full = some[0].first.cell, some[0].first.full
        title = f"{cell.task} · {cell.architecture} ({full:,} parameters) · recipe {cell.recipe.name}"
        output.print(title, style="bold", markup=False, soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        table.add_column("Method", overflow="fold", min_width=12)
        for heading in ("Budget", "Parameters", "Seeds"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("State", overflow="fold", min_width=11)
        for heading in ("Each", "Memory"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in some:
            cell, estimate, preview = row.first.cell, row.estimate, row.preview
            options = (f" {key}={value}" for key, value in sorted(cell.options.items()))
            table.add_row(
                escape("\n".join([cell.method, *options])),
                cell.budget_text,
                "—" if preview.parameters is None else f"{preview.parameters:,}",
                f"{len(row.cells):,}",
                row.state,
                "—" if preview.trouble else _duration(estimate.seconds),
                "—" if preview.trouble or estimate.memory is None else _size(estimate.memory),
            )
        output.print(table)
    notes = [
        f"{row.preview.trouble}: {row.first.cell.method_label} at {row.first.cell.budget_text}: {row.preview.reason}"
        for row in rows
        if row.preview.trouble
    ]
    for note in dict.fromkeys(notes):
        output.print(note, style="dim", markup=False)
    if notes:
        output.print()


def _show_outlook(outlook: Outlook, device: str, forecast: Forecast, of_what: Counter[str]) -> None:
    from datetime import datetime, timedelta

    from rich.table import Table

    cpu = device == "cpu"
    now = datetime.now().astimezone()
    end = now + timedelta(seconds=outlook.seconds)
    when = f"{end:%H:%M}" if end.date() == now.date() else f"{end:%H:%M on %a %d %B %Y}"
    lanes = f"{outlook.lanes} {'CPU thread' if cpu else 'GPU'}{'s' if outlook.lanes > 1 else ''}"
    bases = "; ".join(f"{of_what[basis]:,} from {words}" for basis, words in _BASES.items() if of_what[basis])
    facts = {
        "CPU time" if cpu else "GPU time": _duration(outlook.device_seconds),
        f"on {lanes}": f"finished at {when}, in {_duration(outlook.seconds)}",
        "memory": "unknown" if outlook.memory is None else f"{_size(outlook.memory)} a worker, at its peak",
        "disk": f"{_size(outlook.checkpoints)} of checkpoints while it runs; the database grows by "
        f"{_size(outlook.growth)}",
        "forecast": f"{bases} ({forecast.runs:,} past runs)",
    }
    past = forecast.hindcast()
    if past.new.of:
        facts["past runs"] = (
            f"right within a factor of {past.factor:g}: {past.known} from others of their kind, {past.new} without any"
            if past.known.of
            else f"right within a factor of {past.factor:g}: {past.new} without any of their kind"
        )
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        table.add_row(name, fact)
    output.print(table)


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


def _duration(seconds: float) -> str:
    from npas_bench.runner.progress import format_seconds

    if seconds < 3600:
        return format_seconds(seconds)
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
