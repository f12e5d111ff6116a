"""What forecasts read from the store: what finished runs took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Float, Text, cast, func, select

from npas_bench.store.schema import CellRow, RunRow

if TYPE_CHECKING:
    from npas_bench.store.database import Store

# A database may hold a million runs; the newest tell most about the next ones.
MOST = 10_000


class Timing(NamedTuple):
    """What a finished run took.

    Attributes:
        options: of the method, as JSON.
        recipe: its fields, as JSON.
        device: its name.
        host: class of the host; None where it was not noted.
        engine: switches that were on, as JSON; None for none.
        train_seconds: all of training, the search included.
        evaluate_seconds: of evaluation.
        seconds_per_step: of training.
        peak_memory: bytes.
    """

    task: str
    architecture: str
    method: str
    options: str
    budget: int
    recipe: str
    device: str
    host: str | None
    engine: str | None
    train_seconds: float
    evaluate_seconds: float | None
    seconds_per_step: float | None
    peak_memory: int | None


def read_timings(store: Store, device_class: str, *, most: int = MOST) -> list[Timing]:
    """What the newest finished runs on a class of devices took, newest first.

    Args:
        store: open.
        device_class: `cpu` or `cuda`.
        most: runs to read.
    """
    # As text: alike ones are parsed once, by whoever needs them.
    query: Any = (
        select(
            CellRow.task,
            CellRow.architecture,
            CellRow.method,
            cast(CellRow.options, Text),
            CellRow.budget,
            cast(CellRow.recipe, Text),
            RunRow.device,
            RunRow.host,
            cast(RunRow.cost["engine"].as_string(), Text),
            RunRow.train_seconds,
            cast(RunRow.cost["evaluate_seconds"].as_string(), Float),
            RunRow.seconds_per_step,
            RunRow.peak_memory,
        )
        .join(CellRow, CellRow.identity == RunRow.identity)
        .where(RunRow.state == "done", RunRow.device_class == device_class, RunRow.train_seconds > 0)
        .order_by(RunRow.id.desc())
        .limit(most)
    )
    with store.session() as session:
        return [Timing(*row) for row in session.execute(query)]


def count_runs(store: Store) -> int:
    """How many runs a store holds, of whatever state."""
    with store.session() as session:
        return session.scalar(select(func.max(RunRow.id))) or 0
