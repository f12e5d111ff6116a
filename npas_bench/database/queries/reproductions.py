"""Further runs of a cell on the same data: reproductions of the run that boards show, which never count as seeds.

They are runs of another device class, repetitions, older runs, and runs that were imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sqlalchemy import func, select

from npas_bench.database.schema import MetricRow, RunRow
from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from npas_bench.database.opening import Database
    from npas_bench.database.queries.results import Result

_T = TypeVar("_T")

_CHUNK = 900
_FINAL = tuple(state for state in RunState if state.final)


class FinishedRun(NamedTuple):
    """A finished run of a cell, or one that found it unsupported.

    Attributes:
        run: number of the run in its database.
        uid: uid of the run, the same in every database.
        counts: whether it is the one that boards show for its device class.
        device_class: `cpu` or `cuda`.
        finished: when it ended.
        origin: name of the file that it came in; None for a run of this database.
        state: how it ended.
        metrics: values of the metrics by their names.
    """

    run: int
    uid: str
    counts: bool
    device_class: str
    finished: datetime | None
    origin: str | None
    state: RunState
    metrics: dict[str, float]


class Related(NamedTuple):
    """The runs of a database that one of its runs has to do with.

    Attributes:
        repeats: number of the run that it repeats; None if it repeats none, or one of another database.
        repetitions: numbers of the runs that repeat it, oldest first.
        imported: runs of the same cell, data and device class that came from elsewhere and are done or unsupported,
            oldest first.
    """

    repeats: int | None
    repetitions: list[int]
    imported: Sequence[FinishedRun] = ()


def related_runs(database: Database, row: RunRow) -> Related:
    """The run that a run repeats, the runs that repeat it, and ended runs of its cell from elsewhere."""
    finished = read_finished_runs(database, row.identity, row.data_digest, _FINAL) if row.state.final else []
    imported = [
        one for one in finished if one.origin is not None and one.run != row.id and one.device_class == row.device_class
    ]
    with database.session() as session:
        repeats = session.scalar(select(RunRow.id).where(RunRow.uid == row.repeats)) if row.repeats else None
        repetitions = session.scalars(select(RunRow.id).where(RunRow.repeats == row.uid).order_by(RunRow.id))
        return Related(repeats, list(repetitions), imported)


def reproduced_runs(results: Sequence[Result], *databases: Database) -> set[int]:
    """Find the results whose cells were finished more than once.

    Args:
        results: results of the first database.
        databases: databases to look in. A run that is in several of them counts once.

    Returns:
        The numbers of the results' runs.
    """
    done: dict[tuple[str, str], list[int]] = {}
    for result in results:
        if result.state == RunState.DONE:
            # A cell has one result for each device class.
            done.setdefault((result.identity, result.data_digest), []).append(result.run)
    wanted = sorted({identity for identity, _ in done})
    uids: dict[tuple[str, str], set[str]] = {}
    for database in databases:
        for part in _parts(wanted):
            for identity, digest, uid in _several(database, part, alone=len(databases) == 1):
                uids.setdefault((identity, digest), set()).add(uid)
    return {run for key, found in uids.items() if len(found) > 1 for run in done.get(key, ())}


def _several(database: Database, identities: Sequence[str], *, alone: bool) -> Iterator[tuple[str, str, str]]:
    """Identity, data digest and uid of finished runs; if `alone`, of cells with several, and a number for the uid."""
    key = (RunRow.identity, RunRow.data_digest)
    where = RunRow.identity.in_(identities), RunRow.state == RunState.DONE
    with database.session() as session:
        if not alone:
            for identity, digest, uid in session.execute(select(*key, RunRow.uid).where(*where)):
                yield identity, digest, uid
            return
        counted = select(*key, func.count()).where(*where).group_by(*key).having(func.count() > 1)
        for identity, digest, count in session.execute(counted):
            yield from ((identity, digest, str(number)) for number in range(count))


def contradicted_runs(
    results: Sequence[Result], database: Database, shown: Callable[[float, str | None], float]
) -> set[int]:
    """Find the own results of whose cells an imported run has another value, or came to another end.

    Args:
        results: results of the database.
        database: open.
        shown: makes a value in a unit what a reader sees of it; values that look alike are no contradiction.

    Returns:
        The numbers of the results' runs.
    """
    own = {
        (one.identity, one.data_digest, one.device_class): one
        for one in results
        if one.origin is None and one.state in _FINAL
    }
    imported = RunRow.origin.is_not(None), RunRow.state.in_(_FINAL), RunRow.current.is_(False)
    columns = (RunRow.identity, RunRow.data_digest, RunRow.device_class, RunRow.state, MetricRow.name, MetricRow.value)
    found: set[int] = set()
    with database.session() as session:
        for part in _parts(sorted({identity for identity, _, _ in own})):
            query = select(*columns).join(MetricRow, MetricRow.run_id == RunRow.id, isouter=True)
            for identity, digest, device, state, name, value in session.execute(
                query.where(RunRow.identity.in_(part), *imported)
            ):
                mine = own.get((identity, digest, device))
                if mine is None:
                    continue
                same = mine.metric == name and mine.value is not None and value is not None
                if mine.state != state or (same and shown(mine.value or 0.0, mine.unit) != shown(value, mine.unit)):
                    found.add(mine.run)
    return found


def read_finished_runs(
    database: Database, identity: str, data_digest: str, states: Sequence[RunState] = (RunState.DONE,)
) -> list[FinishedRun]:
    """Read all finished runs of a cell on some data, repetitions among them, the oldest first.

    Args:
        database: open.
        identity: identity of the cell.
        data_digest: digest of the data.
        states: how the runs ended.
    """
    runs = (
        select(RunRow.id, RunRow.uid, RunRow.current, RunRow.device_class, RunRow.finished, RunRow.origin, RunRow.state)
        .where(RunRow.identity == identity, RunRow.data_digest == data_digest, RunRow.state.in_(states))
        .order_by(RunRow.id)
    )
    with database.session() as session:
        found = [FinishedRun(*row, {}) for row in session.execute(runs)]
        numbers = {one.run: one for one in found}
        for part in _parts(list(numbers)):
            values = select(MetricRow.run_id, MetricRow.name, MetricRow.value).where(MetricRow.run_id.in_(part))
            for run, name, value in session.execute(values.order_by(MetricRow.position)):
                numbers[run].metrics[name] = value
    return found


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
