"""Reproducing a run: its cell is run again as a repetition, and every metric is compared with what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from npas_bench import plugins
from npas_bench.cells.cell import Cell, RecordedCell
from npas_bench.database.states import RunState
from npas_bench.errors import DataError, NpasBenchError, RecordError
from npas_bench.runner.device import resolve_device
from npas_bench.runner.planned import PlannedCell
from npas_bench.runner.work import Engine
from npas_bench.verify.tolerances import Circumstances

if TYPE_CHECKING:
    from npas_bench.database.schema import RunRow
    from npas_bench.verify.tolerances import Tolerance


class Repeat(NamedTuple):
    """What is to be run so that a run is repeated.

    Attributes:
        planned: its cell, with the data and the device here.
        engine: the switches that the run had.
    """

    planned: PlannedCell
    engine: Engine


class Compared(NamedTuple):
    """One metric of a run and of its repetition.

    Attributes:
        name: name of the metric.
        unit: `%` or empty.
        then: the value that the run gave.
        now: the value that the repetition gave; None if it has no such metric.
        holds: whether the two agree within the tolerance.
    """

    name: str
    unit: str
    then: float
    now: float | None
    holds: bool

    @property
    def difference(self) -> float | None:
        """What the metric grew by; None without a value to compare with."""
        return None if self.now is None else self.now - self.then


class Reproduction(NamedTuple):
    """What came of repeating a run.

    Attributes:
        metrics: everything that the run measured: the metrics that rank it, in their order, then all others.
        parted: the first epoch, from 1, whose mean training loss was another; None if all were the same.
        tolerance: how far the metrics may differ.
    """

    metrics: list[Compared]
    parted: int | None
    tolerance: Tolerance

    @property
    def reproduced(self) -> bool:
        """Tell whether every metric agrees within the tolerance."""
        return all(metric.holds for metric in self.metrics)

    @property
    def exact(self) -> bool:
        """Tell whether every metric is the same bit for bit."""
        return all(metric.then == metric.now for metric in self.metrics)


def plan_repeat(row: RunRow) -> Repeat:
    """What is to be run here so that a run is repeated.

    A run that was imported is repeated like any other if this machine has its data and this installation its versions.

    Args:
        row: the run, with its cell.

    Raises:
        RecordError: if the run has no result, or if its task, method or architecture is not here in its version.
        DataError: if its data is missing here, or other data is in its place.
        DeviceError: if this machine has no device of the run's class.
    """
    name = f"run {row.id}" if row.origin is None else f"run {row.id}, which was imported from {row.origin},"
    if row.state != RunState.DONE:
        raise RecordError(f"{name} cannot be reproduced: {_no_result(row)}")
    try:
        cell = Cell.from_record(RecordedCell.of(row.cell))
        task = plugins.task(cell.task)
        with plugins.tasks.asked(cell.task.partition(":")[0]):
            source = task.source()
    except RecordError as error:
        raise RecordError(f"{name} cannot be reproduced: {error}") from None
    except DataError as error:
        raise DataError(f"{name} cannot be reproduced: {error}") from None
    if source.digest != row.data_digest:
        raise DataError(
            f"{name} cannot be reproduced: it was run on {row.data_label} (sha256 {row.data_digest[:12]}), and the "
            f"data of task {cell.task} here is {source.label} (sha256 {source.digest[:12]}); bring the run's data here"
        )
    device = resolve_device(row.device_class)
    return Repeat(PlannedCell(cell, row.cell.full, source, device, repeats=row.repeats or row.uid), _engine(row))


def circumstances_of(row: RunRow) -> Circumstances:
    """What the last bits of a stored run depend on besides its cell and its data."""
    return Circumstances(row.device_class, row.host or "", row.versions or {})


def compare_runs(then: RunRow, now: RunRow, tolerance: Tolerance) -> Reproduction:
    """Everything that a run measured beside its repetition's, and the first epoch whose losses differ."""
    before, after = _measured(then), _measured(now)
    compared = [
        Compared(name, unit, value, after[name][0], tolerance.allows(value, after[name][0]))
        if name in after
        else Compared(name, unit, value, None, holds=False)
        for name, (value, unit) in before.items()
    ]
    return Reproduction(compared, _first_difference(then, now), tolerance)


def _measured(row: RunRow) -> dict[str, tuple[float, str]]:
    """The value and the unit of all that a run measured, by name: what ranks it, then each subject on each split."""
    ranking = sorted(row.metrics, key=lambda metric: metric.position)
    others = sorted(row.evaluations, key=lambda one: one.position)
    return {metric.name: (metric.value, metric.unit) for metric in ranking} | {
        f"{one.metric}, {one.subject} on {one.split}": (one.value, one.unit) for one in others
    }


def _first_difference(then: RunRow, now: RunRow) -> int | None:
    before, after = ([entry.get("loss") for entry in row.history or []] for row in (then, now))
    for epoch, (loss, other) in enumerate(zip(before, after, strict=False), start=1):
        if loss != other:
            return epoch
    return None if len(before) == len(after) else min(len(before), len(after)) + 1


def _no_result(row: RunRow) -> str:
    if row.state == RunState.FAILED:
        return f"it failed ({row.message}) and has no result; npas-bench run ... --only failed tries its cell again"
    if row.state == RunState.UNSUPPORTED:
        return f"its method does not support the budget ({row.message}), so nothing was trained"
    return f"it is {row.state} and has no result yet; npas-bench status shows what is under way"


def _engine(row: RunRow) -> Engine:
    """The switches that a run had, which it is repeated with, since they may change roundings.

    Raises:
        NpasBenchError: if it had one that this npas-bench does not know.
    """
    engine = Engine()
    for switch in (row.cost or {}).get("engine") or []:
        name, _, count = str(switch).partition("=")
        if name == "regenerate":
            engine = engine._replace(regenerate=True)
        elif name == "compile":
            engine = engine._replace(compiled=True)
        elif name == "processes" and count.isdecimal():
            engine = engine._replace(processes=int(count))
        else:
            raise NpasBenchError(f"run {row.id} had the switch {switch}, unknown to this npas-bench: update npas-bench")
    return engine
