"""`npas-bench plan`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output

if TYPE_CHECKING:
    from npas_bench.runner.item import Item


def plan(
    grid: choose.GridName = None,
    task: choose.Tasks = None,
    architecture: choose.Architectures = None,
    method: choose.Methods = None,
    option: choose.MethodOptions = None,
    budget: choose.Budgets = None,
    seeds: choose.Seeds = None,
    seed: choose.SeedList = None,
    recipe: choose.RecipeName = None,
    epochs: choose.Epochs = None,
    parts: choose.Parts = None,
    precision: choose.Precision = None,
    short: choose.Short = False,
    device: choose.Device = "auto",
    db: choose.Database = None,
) -> None:
    """Show what a run would do: its cells, their parameters, which are supported, which are done."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from npas_bench.store.database import locate, open_for_reading, reaching
    from npas_bench.store.runs import newest_runs

    items = choose.chosen_items(
        choose.Selection(
            grid,
            task,
            architecture,
            method,
            option,
            budget,
            seeds,
            seed,
            recipe,
            epochs,
            parts,
            precision,
            short,
            device,
        )
    )
    location = locate(db)
    with reaching(location):
        store = open_for_reading(location)
        newest = newest_runs(store, (item.key for item in items)) if store else {}
        if store:
            store.close()
    states = [newest[item.key].state if item.key in newest else "to run" for item in items]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("Task", "Architecture", "Method"):
        table.add_column(heading, overflow="fold", min_width=12 if heading == "Method" else None)
    for heading in ("Budget", "Parameters", "Seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("State", no_wrap=True)
    notes = []
    for group in _alike(items):
        cell = items[group[0]].cell
        preview = _preview(items[group[0]])
        counts = {state: [states[i] for i in group].count(state) for state in dict.fromkeys(states[i] for i in group)}
        shown = ", ".join(f"{n} {state}" if len(counts) > 1 else state for state, n in counts.items())
        table.add_row(
            cell.task,
            cell.architecture,
            escape("\n".join([cell.method, *(f" {key}={value}" for key, value in sorted(cell.options.items()))])),
            cell.budget_text,
            preview.parameters,
            str(len(group)),
            shown if preview.trouble is None or "to run" not in counts else preview.trouble,
        )
        if preview.trouble is not None:
            notes.append(f"{preview.trouble}: {cell.method_label} at {cell.budget_text}: {preview.reason}")
    output.print(table)
    for note in dict.fromkeys(notes):
        output.print(note, style="dim", markup=False)
    left = sum(state not in ("done", "unsupported") for state in states)
    output.print(f"{len(items)} cells, {left} to run, on {items[0].device}; results in {location}", soft_wrap=True)


def _alike(items: list[Item]) -> list[list[int]]:
    """Indices of cells that differ in their seed alone, in order."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, item in enumerate(items):
        cell = item.cell
        key = (cell.task, cell.architecture, cell.method_label, cell.budget, cell.recipe)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


class Preview(NamedTuple):
    """A cell counted without training: its parameters; what is wrong with it, and why."""

    parameters: str
    trouble: str | None
    reason: str | None


def _preview(item: Item) -> Preview:
    from npas_bench import plugins
    from npas_bench.errors import UnsupportedBudget
    from npas_bench.runner.execution import problem_of

    method = plugins.methods.load(item.cell.method)(item.cell.options)
    problem = problem_of(item.cell, plugins.task(item.cell.task))
    try:
        return Preview(f"{method.preview(problem).total:,}", None, None)
    except UnsupportedBudget as unsupported:
        return Preview("—", "unsupported", str(unsupported))
    # A method may fail in any way whatever; a run would store the cell as failed and go on.
    except Exception as error:
        return Preview("—", "would fail", f"{type(error).__name__}: {error}")
