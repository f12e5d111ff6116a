"""What boards read from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from npas_bench.store.runs import UNFINISHED
from npas_bench.store.schema import CellRow, MetricRow, RunRow

if TYPE_CHECKING:
    from npas_bench.store.database import Store


class Result(NamedTuple):
    """The newest ended run of a cell, on some data and device class, with one metric of it.

    Attributes:
        run: its id in its store.
        canonical: the JSON that its cell's identity was made from.
        metric: name of the metric; None where the run is not done.
        value: the metric's value.
        unit: its unit.
        higher_is_better: its direction.
    """

    run: int
    task: str
    architecture: str
    recipe: str
    canonical: str
    data_label: str
    data_digest: str
    data_official: bool
    device_class: str
    device: str
    method: str
    task_version: int
    method_version: int
    options: dict[str, Any]
    budget: int
    budget_text: str
    full: int
    seed: int
    state: str
    parameters: int | None
    seconds_per_step: float | None
    message: str | None
    metric: str | None
    value: float | None
    unit: str | None
    higher_is_better: bool | None


def read_results(
    store: Store, *, task: str | None = None, architecture: str | None = None, metric: str | None = None
) -> list[Result]:
    """Every cell's newest ended run, in a fixed order.

    Args:
        store: open.
        task: only this task.
        architecture: only this architecture.
        metric: the metric to read; left out, each task's primary one.
    """
    wanted = MetricRow.position == 0 if metric is None else MetricRow.name == metric
    query: Any = (
        select(
            RunRow.id,
            CellRow.task,
            CellRow.architecture,
            CellRow.recipe_name,
            CellRow.canonical,
            RunRow.data_label,
            RunRow.data_digest,
            RunRow.data_official,
            RunRow.device_class,
            RunRow.device,
            CellRow.method,
            CellRow.task_version,
            CellRow.method_version,
            CellRow.options,
            CellRow.budget,
            CellRow.budget_text,
            CellRow.full,
            CellRow.seed,
            RunRow.state,
            RunRow.parameters,
            RunRow.seconds_per_step,
            RunRow.message,
            MetricRow.name,
            MetricRow.value,
            MetricRow.unit,
            MetricRow.higher_is_better,
        )
        .join(CellRow, CellRow.identity == RunRow.identity)
        .join(MetricRow, (MetricRow.run_id == RunRow.id) & wanted, isouter=True)
        .where(RunRow.current)
        .order_by(CellRow.task, CellRow.architecture, CellRow.budget, CellRow.method, CellRow.seed, RunRow.id)
    )
    if task is not None:
        query = query.where(CellRow.task == task)
    if architecture is not None:
        query = query.where(CellRow.architecture == architecture)
    with store.session() as session:
        return [Result(*row) for row in session.execute(query)]


def stored_names(store: Store) -> dict[str, set[str]]:
    """The names of tasks, architectures and metrics that a store has results of."""
    columns = {"task": CellRow.task, "architecture": CellRow.architecture, "metric": MetricRow.name}
    with store.session() as session:
        return {kind: set(session.scalars(select(column).distinct())) for kind, column in columns.items()}


def count_unfinished(store: Store) -> int:
    """How many runs are pending or were interrupted."""
    with store.session() as session:
        return session.scalar(select(func.count()).where(RunRow.state.in_(UNFINISHED))) or 0


def find_run(store: Store, run: int) -> RunRow | None:
    """A run with its cell and metrics."""
    query = select(RunRow).where(RunRow.id == run).options(joinedload(RunRow.cell), selectinload(RunRow.metrics))
    with store.session() as session:
        return session.scalar(query)


def latest_runs(store: Store, count: int) -> list[int]:
    """Ids of the newest runs, newest first."""
    with store.session() as session:
        return list(session.scalars(select(RunRow.id).order_by(RunRow.id.desc()).limit(count)))
