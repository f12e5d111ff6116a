"""What the tasks and methods that are installed here say about a record: its versions, and the range of its metrics."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from npas_bench import plugins
from npas_bench.errors import NpasBenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from npas_bench.database.exchange.record import CellRecord, Record
    from npas_bench.tasks import Metric, Task

# What rounding in single precision may add to a share of 100 %.
_ROUNDING = 1e-4
_SHARE = (0.0, 100.0)
_ANY = (-math.inf, math.inf)


def contradiction(record: Record) -> str | None:
    """What a record says that no run of its task and its method can have led to; None if there is no such thing.

    Of a task that is not installed or whose version the record does not have, and of evaluations that are none of the
    task's metrics, only units tell a range: what is measured in % lies between 0 and 100.
    """
    newer = _newer(record.cell)
    if newer is not None:
        return newer
    task = _task(record.cell.task)
    known = None if task is None or task.version != record.cell.task_version else _metrics(task)
    if known is not None:
        strange = _strange(record, known)
        if strange is not None:
            return strange
    for one in _values(record):
        lowest, highest = _range(one, known or {})
        if not lowest - _ROUNDING <= one.value <= highest + _ROUNDING:
            side = "below" if one.value < lowest else "above"
            return f"its {one.name} is {one.value:g}, which is {side} every possible value"
    return None


class _Value(NamedTuple):
    """A value of a record, of a metric that ranks it or of an evaluation."""

    name: str
    value: float
    unit: str
    higher_is_better: bool


def _values(record: Record) -> Iterator[_Value]:
    for metric in record.metrics:
        yield _Value(metric.name, metric.value, metric.unit, metric.higher_is_better)
    for one in record.evaluations:
        yield _Value(one.metric, one.value, one.unit, one.higher_is_better)


def _newer(cell: CellRecord) -> str | None:
    """What is wrong with a record of a later version than the one that is installed; None if it is of no such version.

    Nobody here can know what such a record means.
    """
    for kind, name, version, here in (
        ("task", cell.task.partition(":")[0], cell.task_version, _version_of_task(cell.task)),
        ("method", cell.method, cell.method_version, _version_of_method(cell.method)),
    ):
        if here is not None and version > here:
            return (
                f"it was made with version {version} of {kind} '{name}', and version {here} is installed: update "
                f"npas-bench, or the plugin that has the {kind}"
            )
    return None


def _strange(record: Record, known: Mapping[str, Metric]) -> str | None:
    """What is wrong with the names, units and directions of what a record measured, according to its task.

    Evaluations may have names of their own.
    """
    task, first = record.cell.task, next(iter(known))
    unknown = next((one.name for one in record.metrics if one.name not in known), None)
    if unknown is not None:
        return f"its metric '{unknown}' is none of task {task}, which has {', '.join(known)}"
    for one in _values(record):
        metric = known.get(one.name)
        if metric is not None and (one.unit, one.higher_is_better) != (metric.unit, metric.higher_is_better):
            unit = f"in {metric.unit}" if metric.unit else "without a unit"
            better = "higher" if metric.higher_is_better else "lower"
            return f"its metric '{one.name}' is measured {unit} by task {task}, and {better} is better"
    if record.metrics and record.metrics[0].name != first:
        return f"its first metric is '{record.metrics[0].name}', and task {task} ranks runs by '{first}'"
    return None


def _range(one: _Value, known: Mapping[str, Metric]) -> tuple[float, float]:
    usual, metric = _SHARE if one.unit == "%" else _ANY, known.get(one.name)
    if metric is None:
        return usual
    return (
        usual[0] if metric.lowest is None else metric.lowest,
        usual[1] if metric.highest is None else metric.highest,
    )


def _metrics(task: type[Task]) -> Mapping[str, Metric] | None:
    found = getattr(task, "metrics", None)
    # Of a task that decides on its metrics when it is made, nothing is known before.
    return {one.name: one for one in found} if isinstance(found, tuple) and found else None


@lru_cache(maxsize=1000)
def _task(name: str) -> type[Task] | None:
    """The class of a task, which is not made: a record must not make anything look at a folder of this machine."""
    plain = name.partition(":")[0]
    try:
        return plugins.tasks.load(plain) if plain in plugins.tasks.names() else None
    except NpasBenchError:
        return None


def _version_of_task(name: str) -> int | None:
    return getattr(_task(name), "version", None)


@lru_cache(maxsize=1000)
def _version_of_method(name: str) -> int | None:
    try:
        return plugins.methods.load(name).version if name in plugins.methods.names() else None
    except NpasBenchError:
        return None
