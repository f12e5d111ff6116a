"""Standings: results grouped into tables, aggregated over seeds, ranked within a budget.

What counts: each cell's newest ended run, of the newest version of its task and method that has one.
Methods are compared within one task, architecture, recipe, data
and device class, and ranked within one budget. Unsupported and failed cells keep their row and say so; they
take no part in means and ranks; nor does a metric that is no finite number, whose cell counts as failed.
"""

from __future__ import annotations

import statistics as plain
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from npas_bench.cells.labels import method_label
from npas_bench.database.states import RunState
from npas_bench.leaderboard.statistics import half_width, ranks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from npas_bench.database.queries.results import Result

# The method that step times are given relative to.
REFERENCE = "full"
# Sums and squares of what is beyond are not finite.
_LARGEST = 1e100
# What is said of a standing beside its numbers.
UNOFFICIAL = "unofficial data"
FEWER_SEEDS = "not all seeds"
REPRODUCED = "reproduced"


class SeedRun(NamedTuple):
    """One seed of a standing.

    Attributes:
        seed: its number.
        run: its id in its database.
        state: how it ended.
        value: of the metric; None where there is none.
    """

    seed: int
    run: int
    state: RunState
    value: float | None


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
        seconds_per_step: median over seeds.
        relative_time: that over the reference method's; None without one.
        peak_memory: bytes, the most of any seed.
        forward_flops: of one example's forward pass, weights as they are.
        generation_flops: of generating all weights once.
        unsupported: how many cells the method could not support.
        failed: how many cells failed.
        note: why, in the words of the first such cell.
        runs: the seeds one by one, in order.
        badges: what a reader must know of it.
    """

    method: str
    options: Mapping[str, Any]
    rank: int | None
    mean: float | None
    half_width: float | None
    seeds: int
    parameters: int | None
    seconds_per_step: float | None
    relative_time: float | None
    peak_memory: int | None
    forward_flops: float | None
    generation_flops: float | None
    unsupported: int
    failed: int
    note: str | None
    runs: tuple[SeedRun, ...]
    badges: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The method with its options."""
        return method_label(self.method, self.options)

    @property
    def values(self) -> dict[int, float]:
        """The metric of each seed that is done."""
        return {run.seed: run.value for run in self.runs if run.value is not None}


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
        key: of the table, the same in every database.
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
        whole: all bands, where some rows were left out of `bands` by choice.
    """

    key: str
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
    whole: list[Band] | None = None

    @property
    def data(self) -> str:
        """What its data is called, with a word where it is not the official one."""
        return self.data_label if self.data_official else f"{self.data_label}, {UNOFFICIAL}"

    @property
    def all_bands(self) -> list[Band]:
        """Everything that was read of it, whatever is shown."""
        return self.bands if self.whole is None else self.whole

    def choose(self, bands: list[Band]) -> BoardTable:
        """The same with fewer rows to show."""
        return replace(self, bands=bands, whole=self.all_bands)


def tabulate(results: Iterable[Result], reproduced: Collection[int] = ()) -> list[BoardTable]:
    """Group results into tables, in the order of task, architecture, recipe, data and device class.

    Args:
        results: of one database.
        reproduced: runs whose cells were run again, to the same or another result.
    """
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in _newest_versions([_finite(result) for result in results]):
        groups[result.board].append(result)
    return in_order(_table(group, reproduced) for group in groups.values())


def only_methods(tables: Iterable[BoardTable], wanted: str | None) -> list[BoardTable]:
    """Tables without the rows whose label does not contain a text, in any case; ranks stay those among all.

    Args:
        tables: whole.
        wanted: part of a label; None or empty for all.
    """
    if not wanted:
        return list(tables)
    found = []
    for table in tables:
        bands = [
            band._replace(standings=[s for s in band.standings if wanted.casefold() in s.label.casefold()])
            for band in table.bands
        ]
        if any(band.standings for band in bands):
            found.append(table.choose([band for band in bands if band.standings]))
    return found


def leading_methods(table: BoardTable, count: int) -> set[str]:
    """Labels of the methods that come nearest to the top at some budget, as many as a chart can hold.

    Args:
        table: with the results.
        count: at most so many; the reference method comes on top.
    """
    best: dict[str, tuple[int, int]] = {}
    for band in table.bands:
        for place, standing in enumerate(band.standings):
            if standing.mean is not None:
                best[standing.label] = min(best.get(standing.label, (place, -band.budget)), (place, -band.budget))
    return {*sorted(best, key=lambda label: (*best[label], label))[:count], REFERENCE}


def _finite(result: Result) -> Result:
    if result.value is None or abs(result.value) <= _LARGEST:
        return result
    message = f"its {result.metric} is {result.value:g}, which is no finite number, or none that means anything"
    return result._replace(state=RunState.FAILED, value=None, message=message)


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


def _table(group: Sequence[Result], reproduced: Collection[int]) -> BoardTable:
    first = group[0]
    measured = next((result for result in group if result.metric is not None), None)
    higher = bool(measured.higher_is_better) if measured else False
    reference = _step_time(result for result in group if result.method == REFERENCE)
    bands: dict[int, list[Result]] = defaultdict(list)
    for result in group:
        bands[result.budget].append(result)
    asked = max(Counter(_row(result) for result in group).values())
    return BoardTable(
        key=first.board,
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
        bands=[
            _band(results, _Table(reference, asked, first.data_official, reproduced), higher=higher)
            for _, results in sorted(bands.items())
        ],
    )


def _row(result: Result) -> tuple[int, str]:
    return result.budget, method_label(result.method, result.options)


class _Table(NamedTuple):
    """What a standing is told relative to: the reference method's step time, the most seeds of a row, the data."""

    reference: float | None
    seeds: int
    official: bool
    reproduced: Collection[int]


def _band(results: Sequence[Result], table: _Table, *, higher: bool) -> Band:
    methods: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        methods[method_label(result.method, result.options)].append(result)
    values = {
        method: {run.seed: run.value for run in runs if run.state == RunState.DONE and run.value is not None}
        for method, runs in methods.items()
    }
    ranked = ranks(values, higher_is_better=higher)
    standings = [
        _standing(runs, list(values[label].values()), ranked.get(label), table) for label, runs in methods.items()
    ]
    sign = -1 if higher else 1
    # What could not be ranked, for lack of seeds, stands behind what could.
    standings.sort(key=lambda s: (s.mean is None, s.rank is None, s.rank or 0, sign * (s.mean or 0.0), s.label))
    return Band(results[0].budget, results[0].budget_text, standings)


def _standing(runs: Sequence[Result], values: Sequence[float], rank: int | None, table: _Table) -> Standing:
    time, reference = _step_time(runs), table.reference
    done = [run for run in runs if run.state == RunState.DONE]
    troubled = [run for run in runs if run.state in (RunState.UNSUPPORTED, RunState.FAILED)]
    return Standing(
        method=runs[0].method,
        options=runs[0].options,
        rank=rank,
        mean=plain.fmean(values) if values else None,
        half_width=half_width(values),
        seeds=len(values),
        parameters=max((run.parameters for run in runs if run.parameters is not None), default=None),
        seconds_per_step=time,
        relative_time=time / reference if time is not None and reference else None,
        peak_memory=max((run.peak_memory for run in done if run.peak_memory is not None), default=None),
        forward_flops=max((run.forward_flops for run in done if run.forward_flops is not None), default=None),
        generation_flops=max((run.generation_flops for run in done if run.generation_flops is not None), default=None),
        unsupported=sum(run.state == RunState.UNSUPPORTED for run in runs),
        failed=sum(run.state == RunState.FAILED for run in runs),
        note=troubled[0].message if troubled else None,
        runs=tuple(sorted(SeedRun(run.seed, run.run, run.state, run.value) for run in runs)),
        badges=tuple(_badges(runs, len(values), table)),
    )


def _badges(runs: Sequence[Result], done: int, table: _Table) -> Iterator[str]:
    if not table.official:
        yield UNOFFICIAL
    if 0 < done < table.seeds:
        yield FEWER_SEEDS
    if any(run.run in table.reproduced for run in runs):
        yield REPRODUCED


def _step_time(runs: Iterable[Result]) -> float | None:
    times = [run.seconds_per_step for run in runs if run.state == RunState.DONE and run.seconds_per_step is not None]
    return plain.median(times) if times else None
