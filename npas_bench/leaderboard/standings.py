"""Standings: results grouped into tables, aggregated over seeds, and ranked within each budget.

A cell counts by its newest run that has ended, if that run was made with the versions of its task and its method that
count (`npas_bench.database.queries.versions`). Methods are compared within one task, architecture, recipe, data set and
device class, and ranked within one budget. Unsupported and failed cells keep their row, which says so, but take no part
in means and ranks. A cell whose metric is not a finite number counts as failed.
"""

from __future__ import annotations

import statistics as plain
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from npas_bench.cells.labels import method_label
from npas_bench.database.bounds import LARGEST_VALUE
from npas_bench.database.labels import CLAIMED, UNOFFICIAL, data_text
from npas_bench.database.queries.versions import of_counting_versions
from npas_bench.database.states import RunState
from npas_bench.leaderboard.statistics import half_width, ranks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from npas_bench.database.queries.results import Result

# Step times are given relative to this method.
REFERENCE = "full"
# The badges of a standing.
FEWER_SEEDS = "not all seeds"
REPRODUCED = "reproduced"
CONTRADICTED = "imported runs differ"
MIXED = "some seeds imported"


class SeedRun(NamedTuple):
    """One seed of a standing.

    Attributes:
        seed: the number of the seed.
        run: the id of its run, in the database that it came from.
        state: how the run ended.
        value: the value of the metric; None if there is none.
    """

    seed: int
    run: int
    state: RunState
    value: float | None


class Standing(NamedTuple):
    """One method at one budget.

    Attributes:
        method: the name of the method.
        options: the method's options that differ from their defaults.
        rank: one plus the number of methods that are significantly better; None where there is nothing to rank.
        mean: the mean of the metric over seeds; None if no seed is done.
        half_width: half the width of the 95 % t-interval of the mean; None below three seeds.
        seeds: how many seeds are done.
        parameters: how many trainable scalars are really used, in the largest run.
        seconds_per_step: the time of a training step, the median over seeds.
        relative_time: that time divided by the reference method's; None if there is no such result.
        peak_memory: the largest peak memory of any seed, in bytes.
        forward_flops: operations of one example's forward pass, without generating weights.
        generation_flops: operations of generating all weights once.
        unsupported: how many cells the method does not support.
        failed: how many cells failed.
        note: why, as the first unsupported or failed cell puts it.
        runs: the seeds one by one, in order.
        badges: what a reader must know about the result.
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
        budget: how many trainable scalars are allowed.
        text: the budget as it was asked for.
        standings: the results, best first, and methods without a result last.
    """

    budget: int
    text: str
    standings: list[Standing]


class Cut(NamedTuple):
    """The budgets that are left out of a very large table.

    Attributes:
        budgets: how many larger budgets are left out.
        after: the smallest of them.
    """

    budgets: int
    after: int


@dataclass(frozen=True)
class BoardTable:
    """One table of a board.

    Attributes:
        key: what identifies the table, the same in every database.
        task: the name of the task.
        architecture: the name of the architecture.
        recipe: the name of the recipe.
        data_label: the name of the data.
        data_official: whether the data is the official one.
        device_class: `cpu` or `cuda`.
        full: how many trainable scalars the full architecture has.
        metric: the name of the metric; None if no cell is done.
        unit: the unit of the metric.
        higher_is_better: whether higher values of the metric are better.
        bands: the budgets in rising order, with their results.
        cut: the budgets that are left out of `bands` because the table is very large; None if none are.
        whole: all bands, if some rows were left out of `bands` by choice.
        data_claimed: whether only imported runs say what the data is.
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
    data_claimed: bool = False

    @property
    def data(self) -> str:
        """The name of the data, marked where the data is not the official one, or that is only claimed."""
        return data_text(self.data_label, self.data_official, claimed=self.data_claimed)

    @property
    def all_bands(self) -> list[Band]:
        """All bands that were read, even if only some rows are shown."""
        return self.bands if self.whole is None else self.whole

    def choose(self, bands: list[Band]) -> BoardTable:
        """The same table with fewer rows to show."""
        return replace(self, bands=bands, whole=self.all_bands)


class Marks(NamedTuple):
    """What is known of results besides what their own runs say.

    Attributes:
        reproduced: ids of runs whose cells were run again, whatever came out.
        contradicted: ids of own runs of whose cells imported runs say otherwise.
        trusted: whether imported runs are taken at their word, as those of the published board are.
    """

    reproduced: Collection[int] = ()
    contradicted: Collection[int] = ()
    trusted: bool = False


_NO_MARKS = Marks()


def tabulate(results: Iterable[Result], marks: Marks = _NO_MARKS) -> list[BoardTable]:
    """Group results into tables, in the order of task, architecture, recipe, data and device class.

    Args:
        results: the results of one database.
        marks: what is known of them besides.
    """
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in of_counting_versions(results):
        groups[result.board].append(_finite(result))
    return in_order(_table(group, marks) for group in groups.values())


def only_methods(tables: Iterable[BoardTable], wanted: str | None) -> list[BoardTable]:
    """The tables with only those rows whose label contains a text, in upper or lower case; ranks stay as they are.

    Args:
        tables: tables with all their rows.
        wanted: a part of the label; None or empty to keep every row.
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
    """The labels of the methods that come nearest to the top at some budget, and of the reference method.

    Args:
        table: the table with the results.
        count: the largest number of methods besides the reference method.
    """
    best: dict[str, tuple[int, int]] = {}
    for band in table.bands:
        for place, standing in enumerate(band.standings):
            if standing.mean is not None:
                best[standing.label] = min(best.get(standing.label, (place, -band.budget)), (place, -band.budget))
    return {*sorted(best, key=lambda label: (*best[label], label))[:count], REFERENCE}


def _finite(result: Result) -> Result:
    if result.value is None or abs(result.value) <= LARGEST_VALUE:
        return result
    message = f"its {result.metric} is {result.value:g}, which is no finite number, or none that means anything"
    return result._replace(state=RunState.FAILED, value=None, message=message)


def in_order(tables: Iterable[BoardTable]) -> list[BoardTable]:
    """Tables in the order of boards: by their names."""
    return sorted(tables, key=lambda t: (t.task, t.architecture, t.recipe, t.data_label, t.device_class))


def _table(group: Sequence[Result], marks: Marks) -> BoardTable:
    # What own runs say of the table holds: an import does not decide it.
    own = [result for result in group if result.origin is None]
    first = (own or group)[0]
    claimed = first.data_official and not own and not marks.trusted
    measured = next((result for result in (*own, *group) if result.metric is not None), None)
    higher = bool(measured.higher_is_better) if measured else False
    reference = _reference_time(own) or _reference_time(group)
    bands: dict[int, list[Result]] = defaultdict(list)
    for result in group:
        bands[result.budget].append(_comparable(result, measured))
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
            _band(results, _Table(reference, asked, first.data_official, claimed, marks), higher=higher)
            for _, results in sorted(bands.items())
        ],
        data_claimed=claimed,
    )


def _comparable(result: Result, measured: Result | None) -> Result:
    """The result; a failed one in place of an imported one that measures something else than own results do."""
    if measured is None or measured.origin is not None or result.origin is None or result.metric is None:
        return result
    if _metric(result) == _metric(measured):
        return result
    message = f"it was imported, and its metric {result.metric} is not the {measured.metric} of own runs"
    return result._replace(state=RunState.FAILED, value=None, message=message)


def _metric(result: Result) -> tuple[str | None, str | None, bool | None]:
    return result.metric, result.unit, result.higher_is_better


def _reference_time(results: Iterable[Result]) -> float | None:
    return _step_time(result for result in results if result.method == REFERENCE)


def _row(result: Result) -> tuple[int, str]:
    return result.budget, method_label(result.method, result.options)


class _Table(NamedTuple):
    """What a standing is compared with: the reference's step time, the most seeds of any row, the data, the marks."""

    reference: float | None
    seeds: int
    official: bool
    claimed: bool
    marks: Marks


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
    # Methods with too few seeds to be ranked stand behind those that are ranked.
    standings.sort(key=lambda s: (s.mean is None, s.rank is None, s.rank or 0, sign * (s.mean or 0.0), s.label))
    text = next((result.budget_text for result in results if result.origin is None), results[0].budget_text)
    return Band(results[0].budget, text, standings)


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
    elif table.claimed:
        yield CLAIMED
    if 0 < done < table.seeds:
        yield FEWER_SEEDS
    if {run.origin is None for run in runs if run.state == RunState.DONE} == {True, False}:
        yield MIXED
    if any(run.run in table.marks.reproduced for run in runs):
        yield REPRODUCED
    if any(run.run in table.marks.contradicted for run in runs):
        yield CONTRADICTED


def _step_time(runs: Iterable[Result]) -> float | None:
    times = [run.seconds_per_step for run in runs if run.state == RunState.DONE and run.seconds_per_step is not None]
    return plain.median(times) if times else None
