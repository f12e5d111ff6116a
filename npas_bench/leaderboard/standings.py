"""Standings: results grouped into tables, aggregated over seeds, ranked within a budget.

What counts: each cell's newest ended run, of the newest version of its task and method that has one.
Methods are compared within one task, architecture, recipe, data
and device class, and ranked within one budget. Unsupported and failed cells keep their row and say so; they
take no part in means and ranks.
"""

from __future__ import annotations

import statistics as plain
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from npas_bench.leaderboard.statistics import half_width, ranks
from npas_bench.store.labels import method_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from npas_bench.store.results import Result

# The method that step times are given relative to.
REFERENCE = "full"


class Standing(NamedTuple):
    """One method at one budget.

    Attributes:
        method: its name.
        options: its options that differ from their defaults.
        rank: one plus the number of methods significantly better; None where there is nothing to rank.
        mean: of the metric over seeds; None if no seed is done.
        half_width: of the 95 % t-interval; None below three seeds.
        seeds: how many are done.
        parameters: trainable scalars really used, of the largest run.
        relative_time: seconds per step over the reference method's; None without one.
        unsupported: how many cells the method could not support.
        failed: how many cells failed.
        note: why, in the words of the first such cell.
    """

    method: str
    options: Mapping[str, Any]
    rank: int | None
    mean: float | None
    half_width: float | None
    seeds: int
    parameters: int | None
    relative_time: float | None
    unsupported: int
    failed: int
    note: str | None

    @property
    def label(self) -> str:
        """The method with its options."""
        return method_label(self.method, self.options)


class Band(NamedTuple):
    """One budget of a table.

    Attributes:
        budget: trainable scalars allowed.
        text: the budget as it was asked for.
        standings: best first; those without a result last.
    """

    budget: int
    text: str
    standings: list[Standing]


class Cut(NamedTuple):
    """What of a table is left out, as it would be too much.

    Attributes:
        budgets: how many larger ones there are.
        after: the smallest of these.
    """

    budgets: int
    after: int


@dataclass(frozen=True)
class BoardTable:
    """One table of a board.

    Attributes:
        task: name of the task.
        architecture: name of the architecture.
        recipe: name of the recipe.
        data_label: what the data is to be called.
        data_official: whether it is the official data.
        device_class: `cpu` or `cuda`.
        full: trainable scalars of the full architecture.
        metric: name of the metric; None if no cell is done.
        unit: of the metric.
        higher_is_better: its direction.
        bands: by rising budget.
        cut: what of a very large table is not among them.
    """

    task: str
    architecture: str
    recipe: str
    data_label: str
    data_official: bool
    device_class: str
    full: int
    metric: str | None
    unit: str
    higher_is_better: bool
    bands: list[Band]
    cut: Cut | None = None


def tabulate(results: Iterable[Result]) -> list[BoardTable]:
    """Group results into tables, in the order of task, architecture, recipe, data and device class."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in _newest_versions(list(results)):
        groups[result.board].append(result)
    return in_order(_table(group) for group in groups.values())


def in_order(tables: Iterable[BoardTable]) -> list[BoardTable]:
    """Tables as boards show them, by names."""
    return sorted(tables, key=lambda t: (t.task, t.architecture, t.recipe, t.data_label, t.device_class))


def _newest_versions(results: list[Result]) -> list[Result]:
    """What was run with the newest version of its task and of its method: others are other experiments."""
    tasks: dict[str, int] = defaultdict(int)
    methods: dict[str, int] = defaultdict(int)
    for result in results:
        tasks[result.task] = max(tasks[result.task], result.task_version)
        methods[result.method] = max(methods[result.method], result.method_version)
    return [r for r in results if (r.task_version, r.method_version) == (tasks[r.task], methods[r.method])]


def _table(group: Sequence[Result]) -> BoardTable:
    first = group[0]
    measured = next((result for result in group if result.metric is not None), None)
    higher = bool(measured.higher_is_better) if measured else False
    reference = _step_time(result for result in group if result.method == REFERENCE)
    bands: dict[int, list[Result]] = defaultdict(list)
    for result in group:
        bands[result.budget].append(result)
    return BoardTable(
        task=first.task,
        architecture=first.architecture,
        recipe=first.recipe,
        data_label=first.data_label,
        data_official=first.data_official,
        device_class=first.device_class,
        full=first.full,
        metric=measured.metric if measured else None,
        unit=(measured.unit or "") if measured else "",
        higher_is_better=higher,
        bands=[_band(results, reference, higher=higher) for _, results in sorted(bands.items())],
    )


def _band(results: Sequence[Result], reference: float | None, *, higher: bool) -> Band:
    methods: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        methods[method_label(result.method, result.options)].append(result)
    values = {
        method: {run.seed: run.value for run in runs if run.state == "done" and run.value is not None}
        for method, runs in methods.items()
    }
    ranked = ranks(values, higher_is_better=higher)
    standings = [
        _standing(runs, list(values[label].values()), ranked.get(label), reference) for label, runs in methods.items()
    ]
    sign = -1 if higher else 1
    standings.sort(key=lambda s: (s.mean is None, s.rank or 0, sign * (s.mean or 0.0), s.label))
    return Band(results[0].budget, results[0].budget_text, standings)


def _standing(runs: Sequence[Result], values: Sequence[float], rank: int | None, reference: float | None) -> Standing:
    time = _step_time(runs)
    troubled = [run for run in runs if run.state in ("unsupported", "failed")]
    return Standing(
        method=runs[0].method,
        options=runs[0].options,
        rank=rank,
        mean=plain.fmean(values) if values else None,
        half_width=half_width(values),
        seeds=len(values),
        parameters=max((run.parameters for run in runs if run.parameters is not None), default=None),
        relative_time=time / reference if time is not None and reference else None,
        unsupported=sum(run.state == "unsupported" for run in runs),
        failed=sum(run.state == "failed" for run in runs),
        note=troubled[0].message if troubled else None,
    )


def _step_time(runs: Iterable[Result]) -> float | None:
    times = [run.seconds_per_step for run in runs if run.state == "done" and run.seconds_per_step is not None]
    return plain.median(times) if times else None
