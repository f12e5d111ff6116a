"""What a driver asks of the store and writes to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from npas_bench.store.schema import CellRow, MetricRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from npas_bench.store.database import Store

UNFINISHED = ("pending", "running")
# SQLite takes 32,766 variables in a statement; older builds took 999.
_CHUNK = 500


class RunKey(NamedTuple):
    """What there is one finished run of.

    Attributes:
        identity: of the cell.
        data_digest: of the decoded arrays.
        device_class: `cpu` or `cuda`.
    """

    identity: str
    data_digest: str
    device_class: str


class RunState(NamedTuple):
    """The newest run of a key."""

    id: int
    state: str


def newest_runs(store: Store, keys: Iterable[RunKey]) -> dict[RunKey, RunState]:
    """The newest run of each key that has one."""
    wanted = set(keys)
    found: dict[RunKey, RunState] = {}
    with store.session() as session:
        for identities in _chunks(sorted({key.identity for key in wanted})):
            newest = (
                select(func.max(RunRow.id))
                .where(RunRow.identity.in_(identities))
                .group_by(RunRow.identity, RunRow.data_digest, RunRow.device_class)
            )
            columns = (RunRow.identity, RunRow.data_digest, RunRow.device_class, RunRow.id, RunRow.state)
            for identity, digest, device_class, run, state in session.execute(
                select(*columns).where(RunRow.id.in_(newest))
            ):
                key = RunKey(identity, digest, device_class)
                if key in wanted:
                    found[key] = RunState(run, state)
    return found


def add_runs(store: Store, cells: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Store cells that are not there yet and one pending run for each of `runs`; their ids, in order."""
    with store.session.begin() as session:
        known: set[str] = set()
        for identities in _chunks([cell["identity"] for cell in cells]):
            known |= set(session.scalars(select(CellRow.identity).where(CellRow.identity.in_(identities))))
        session.add_all(CellRow(**cell) for cell in cells if cell["identity"] not in known)
        session.flush()
        rows = [RunRow(**run, state="pending", created=now()) for run in runs]
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


def start_run(store: Store, run: int, token: str, facts: Mapping[str, Any]) -> None:
    """Mark a run as running under a new attempt's token."""
    with store.session.begin() as session:
        row = session.get_one(RunRow, run)
        row.state, row.token, row.attempt = "running", token, row.attempt + 1
        row.started = row.started or now()
        for name, value in facts.items():
            setattr(row, name, value)


def finish_run(
    store: Store, run: int, token: str, fields: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> bool:
    """Store how an attempt ended, unless a later one has taken its place.

    Returns:
        Whether it was stored.
    """
    with store.session.begin() as session:
        row = session.get_one(RunRow, run, with_for_update=True)
        if row.token != token or row.state != "running":
            return False
        row.finished = now()
        for name, value in fields.items():
            setattr(row, name, value)
        row.metrics = [MetricRow(position=position, **metric) for position, metric in enumerate(metrics)]
        return True


def release_runs(store: Store, runs: Iterable[int]) -> None:
    """Put runs that were stopped back to pending."""
    with store.session.begin() as session:
        for run in runs:
            row = session.get_one(RunRow, run)
            if row.state == "running":
                row.state = "pending"


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
