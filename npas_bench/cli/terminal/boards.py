"""Boards and single runs on a terminal that is 80 columns wide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from npas_bench.database.labels import data_text, printable
from npas_bench.leaderboard.standings import CONTRADICTED
from npas_bench.leaderboard.texts import (
    cost_lines,
    interval_text,
    ledger_parts,
    metric_text,
    provenance_texts,
    reproducing_command,
    trouble_texts,
)
from npas_bench.recipe.stored import differing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from npas_bench.database.queries.reproductions import FinishedRun, Related
    from npas_bench.database.schema import RunRow
    from npas_bench.database.states import RunState
    from npas_bench.leaderboard.standings import BoardTable, Standing

_MOST_IMPORTED = 5
_LEGEND = (
    "± is half the 95 % t-interval of the mean, from three seeds up. Rank is one plus the number of methods "
    "that are significantly better at the same budget (Holm's procedure, 5 %); methods without a significant "
    "difference may share a rank. Step is the time of a training step relative to full."
)


def print_board(console: Console, heading: str, tables: Sequence[BoardTable]) -> None:
    """Print a board's tables under a heading."""
    console.print(Text(heading, style="bold"))
    for table in tables:
        _print_table(console, table)


def print_legend(console: Console) -> None:
    """Print what the columns mean."""
    console.print(Text(_LEGEND, style="dim"))


def _print_table(console: Console, board: BoardTable) -> None:
    title = f"{board.task} · {board.architecture} ({board.full:,} parameters) · recipe {board.recipe}"
    unit = f" {board.unit}" if board.unit else ""
    console.print()
    console.print(_text(title))
    console.print(_text(f"data: {board.data} · device: {board.device_class} · {metric_text(board)}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Budget", no_wrap=True)
    table.add_column("Rank", justify="right", no_wrap=True)
    table.add_column("Method", overflow="fold", min_width=12)
    table.add_column(_text(f"{board.metric or 'result'}{unit}"), justify="right", no_wrap=True)
    table.add_column("Seeds", justify="right", no_wrap=True)
    table.add_column("Parameters", justify="right", no_wrap=True)
    table.add_column("Step", justify="right", no_wrap=True)
    notes: dict[str, None] = {}
    for band in board.bands:
        for position, standing in enumerate(band.standings):
            table.add_row(
                _text(_budget(band.text, band.budget) if position == 0 else ""),
                str(standing.rank) if standing.rank is not None else "",
                _method(standing),
                _value(standing, board.unit),
                str(standing.seeds) if standing.seeds else "",
                f"{standing.parameters:,}" if standing.parameters is not None else "",
                f"{standing.relative_time:.2f}x" if standing.relative_time is not None else "",
                end_section=position == len(band.standings) - 1,
            )
            if standing.note and (standing.unsupported or standing.failed):
                what = "failed" if standing.failed else "unsupported"
                notes[f"{what}: {standing.label} at {band.text}: {standing.note}"] = None
            if CONTRADICTED in standing.badges:
                runs = ", ".join(str(run.run) for run in standing.runs)
                notes[f"{CONTRADICTED}: {standing.label} at {band.text}; npas-bench show RUN compares ({runs})"] = None
    console.print(table)
    if board.cut is not None:
        more = f"{board.cut.budgets:,} larger budgets" if board.cut.budgets > 1 else "a larger budget"
        console.print(_text(f"{more} not shown: continue with --from-budget {board.cut.after}", style="yellow"))
    for note in notes:
        console.print(_text(note, style="dim"))


def _text(text: str, style: str = "") -> Text:
    """Text that is shown literally: without markup, and without anything that a terminal would obey."""
    return Text(printable(text), style=style)


def _budget(text: str, budget: int) -> str:
    return f"{text} = {budget:,}" if text.endswith(("%", "x", "k", "M", "G")) else f"{budget:,}"


def _method(standing: Standing) -> Text:
    """The method and, on lines of their own, its options: on one line they would not fit."""
    lines = [standing.method, *(f" {key}={value}" for key, value in sorted(standing.options.items()))]
    return Text("\n".join(map(printable, lines)))


def _value(standing: Standing, unit: str) -> str:
    mean = [] if standing.mean is None else [interval_text(standing.mean, standing.half_width, unit)]
    # On one line they would leave no room for the method.
    return "\n".join(mean + trouble_texts(standing))


def print_run(console: Console, row: RunRow, related: Related, *, claimed: bool = False) -> None:
    """Print everything that is known about a run, and the runs that it repeats or is repeated by.

    Args:
        console: where to print it.
        row: the run.
        related: the runs that it has to do with.
        claimed: whether only a file from elsewhere says what its data is.
    """
    cell = row.cell
    facts: list[tuple[str, Any]] = [
        ("run", f"{row.id}, {row.state}" + (f", attempt {row.attempt}" if row.attempt > 1 else "")),
        ("task", cell.task),
        ("architecture", f"{cell.architecture} ({cell.full:,} parameters)"),
        ("method", cell.method + (f" {json.dumps(cell.options)}" if cell.options else "")),
        ("budget", _budget(cell.budget_text, cell.budget)),
        ("seed", cell.seed),
        ("recipe", f"{cell.recipe_name} {json.dumps(differing(cell.recipe))}"),
        ("identity", cell.identity),
        ("data", data_text(row.data_label, row.data_official, claimed=claimed)),
        ("data digest", row.data_digest),
    ]
    for metric in sorted(row.metrics, key=lambda metric: metric.position):
        facts.append((metric.name, f"{metric.value:.6g}{f' {metric.unit}' if metric.unit else ''}"))
    if row.ledger:
        parts = ledger_parts(row.ledger)
        facts.append(("parameters", f"{row.parameters:,}: " + ", ".join(f"{k} {v:,}" for k, v in parts.items())))
        if row.ledger["reach"] is not None:
            facts.append(("in use", f"{100 * row.ledger['reach']:.4g} %"))
        if row.ledger["remark"]:
            facts.append(("allocation", row.ledger["remark"]))
    if row.cost:
        facts.append(("cost", ", ".join(cost_lines(row.cost))))
    if row.history:
        last = row.history[-1]
        facts.append(("last epoch", f"{last['epoch']:.0f}, training loss {last['loss']:.4g}"))
    facts += _repetition_facts(row, related)
    facts += [
        (f"{file.kind} weights", f"{file.file}, {file.bytes:,} bytes, sha256 {file.sha256}") for file in row.weights
    ]
    for entry in row.attempts or []:
        facts.append(("earlier attempt", _attempt(entry)))
    facts += [
        ("reported epoch", row.reported_epoch),
        ("repeats", f"the run with uid {row.repeats}" if row.repeats else None),
        ("message", row.message),
        ("origin", row.origin),
        ("device", f"{row.device} ({row.device_class})"),
        ("host", row.host),
        *provenance_texts(row).items(),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, ""):
            table.add_row(_text(name), Text(printable(str(value), lines=name == "message")))
    console.print(table)
    if row.evaluations:
        console.print(_evaluations(row))
    console.print(Text("this cell again:", style="bold"))
    console.print(_text(reproducing_command(row)), soft_wrap=True)
    if row.detail:
        console.print(Text(printable(row.detail, lines=True), style="dim"))


def _evaluations(row: RunRow) -> Table:
    """What was measured beside the metrics that rank the run, with the size of each subject where it is known."""
    sizes = {subject.name: subject.parameters for subject in row.subjects}
    table = Table(box=None, pad_edge=False)
    for name in ("subject", "split", "metric"):
        table.add_column(name, overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("parameters", justify="right")
    for one in row.evaluations:
        size = sizes.get(one.subject)
        value = f"{one.value:.6g}{f' {one.unit}' if one.unit else ''}"
        table.add_row(*map(_text, (one.subject, one.split, one.metric, value, f"{size:,}" if size is not None else "")))
    return table


def _repetition_facts(row: RunRow, related: Related) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    if row.repeats is not None:
        repeated = f"run {related.repeats}" if related.repeats is not None else f"a run elsewhere, {row.repeats}"
        facts.append(("repetition of", f"{repeated}; no board counts it as a seed"))
    if related.repetitions:
        facts.append(("repeated by", ", ".join(f"run {number}" for number in related.repetitions)))
    mine = {metric.name: metric.value for metric in row.metrics}
    facts += [("imported run", _comparison(one, row.state, mine)) for one in related.imported[:_MOST_IMPORTED]]
    if len(related.imported) > _MOST_IMPORTED:
        facts.append(("", f"and {len(related.imported) - _MOST_IMPORTED:,} more imported runs of this cell"))
    return facts


def _comparison(one: FinishedRun, state: RunState, mine: Mapping[str, float]) -> str:
    """A run of the same cell from elsewhere, and where it differs from this one."""
    if one.state is not state:
        return f"run {one.run} of {one.origin}: {one.state}"
    others = {name: value for name, value in one.metrics.items() if name in mine and value != mine[name]}
    said = [f"{name} {value:.6g}, not {mine[name]:.6g}" for name, value in others.items()]
    same = all(value == mine.get(name) for name, value in one.metrics.items())
    return f"run {one.run} of {one.origin}: {'the same metrics' if same else '; '.join(said) or 'other metrics'}"


def _attempt(entry: Mapping[str, Any]) -> str:
    """How an earlier attempt at the run ended."""
    said = [str(entry.get("why"))]
    if entry.get("seconds") is not None:
        said.append(f"after {entry['seconds']:.4g} s")
    if entry.get("share") is not None:
        said.append(f"on {100 * entry['share']:.0f} % of a GPU")
    if entry.get("alone"):
        said.append("then alone on one")
    return ", ".join(said)
