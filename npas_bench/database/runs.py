"""What a driver reads and writes about runs: finding, adding, claiming and finishing them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import func, select, update

from npas_bench.database.cells import add_cells, insert_for
from npas_bench.database.cleaning import storable
from npas_bench.database.keys import RunKey, board_key, run_uid
from npas_bench.database.schema import EvaluationRow, MetricRow, RunRow, SubjectRow, WeightsRow
from npas_bench.database.states import CANCELLABLE, ENDED, UNDER_WAY, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from npas_bench.database.grids import GridRuns
    from npas_bench.database.opening import Database

_T = TypeVar("_T")

# SQLite takes 32,766 variables in a statement, and older builds of it 999.
_CHUNK = 900
# The key of the lock for choosing what boards show: any number, the same in every version, of its own.
_CURRENT_LOCK = 0x6E706174


class StoredRun(NamedTuple):
    """The newest run of a key.

    Attributes:
        id: number of the run in its database.
        state: state of the run.
    """

    id: int
    state: RunState


class Claim(NamedTuple):
    """A run that now belongs to the driver that asked for it.

    Attributes:
        attempt: number of the new attempt, from 1.
        superseded: token of the attempt before; None if there was none.
    """

    attempt: int
    superseded: str | None


def newest_runs(database: Database, keys: Iterable[RunKey]) -> dict[RunKey, StoredRun]:
    """The newest run of each key that has one: the open run, if there is one, else the run that boards show.

    Repetitions are left out.
    """
    wanted = set(keys)
    found: dict[RunKey, StoredRun] = {}
    columns = (RunRow.identity, RunRow.data_digest, RunRow.device_class, RunRow.id, RunRow.state)
    # The last one found is kept. Among ended runs it is not the number that decides: imported runs have high numbers.
    order = (RunRow.state.not_in(ENDED), RunRow.current, RunRow.id)
    with database.session() as session:
        for identities in _chunks(sorted({key.identity for key in wanted})):
            of_cells = RunRow.identity.in_(identities), RunRow.repeats.is_(None)
            for identity, digest, device_class, run, state in session.execute(
                select(*columns).where(*of_cells).order_by(*order)
            ):
                key = RunKey(identity, digest, device_class)
                if key in wanted:
                    found[key] = StoredRun(run, state)
    return found


def newest_repetitions(database: Database, uids: Iterable[str]) -> dict[str, StoredRun]:
    """The newest repetition of each run that was repeated: the open one, if there is one, else the last one made.

    Args:
        database: open.
        uids: uids of the runs that may have been repeated; the runs themselves need not be in the database.
    """
    found: dict[str, StoredRun] = {}
    order = (RunRow.state.not_in(ENDED), RunRow.id)
    with database.session() as session:
        for some in _chunks(sorted(set(uids))):
            query = select(RunRow.repeats, RunRow.id, RunRow.state).where(RunRow.repeats.in_(some)).order_by(*order)
            found |= {uid: StoredRun(run, state) for uid, run, state in session.execute(query) if uid is not None}
    return found


def uids_of(database: Database, runs: Sequence[int]) -> dict[int, str]:
    """The uids of runs, by number; numbers that the database does not have are left out."""
    found: dict[int, str] = {}
    with database.session() as session:
        for numbers in _chunks(runs):
            rows = session.execute(select(RunRow.id, RunRow.uid).where(RunRow.id.in_(numbers)))
            found |= {number: uid for number, uid in rows}
    return found


def add_runs(database: Database, cells: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Store cells as they are called here, and a pending run for each of `runs` that has no open run yet.

    Args:
        database: open for writing.
        cells: columns of the cells of all runs.
        runs: columns of the runs. One with `repeats`, the uid of a finished run of the same cell, data and device
            class, in this database or another, becomes a repetition of that run.

    Returns:
        For each of `runs`, in order, the number of the open run of its key, or of the open repetition. Another driver
        may have made it, and may be running it.
    """
    canonical = {cell["identity"]: cell["canonical"] for cell in cells}
    keys = [RunKey(run["identity"], run["data_digest"], run["device_class"]) for run in runs]
    rows = [_new_run(key, canonical[key.identity], run) for key, run in zip(keys, runs, strict=True)]
    with database.session.begin() as session:
        add_cells(session, cells, own=True)
        if rows:
            session.execute(insert_for(session)(RunRow).on_conflict_do_nothing(), rows)
    uids = [row["repeats"] for row in rows]
    made = newest_runs(database, [key for key, uid in zip(keys, uids, strict=True) if uid is None])
    repeating = newest_repetitions(database, [uid for uid in uids if uid is not None])
    return [made[key].id if uid is None else repeating[uid].id for key, uid in zip(keys, uids, strict=True)]


def _new_run(key: RunKey, canonical: str, run: Mapping[str, Any]) -> dict[str, Any]:
    created = now()
    repeats = run.get("repeats")
    return {
        **run,
        "repeats": repeats,
        "uid": run_uid(key, created, repeats),
        "board": board_key(canonical, key.data_digest, key.device_class),
        "state": RunState.PENDING,
        "attempt": 0,
        "current": False,
        "created": created,
    }


def reopen_runs(database: Database, runs: Iterable[int]) -> None:
    """Put cancelled runs back to pending."""
    _move(database, runs, (RunState.CANCELLED,), RunState.PENDING)


def claim_run(database: Database, run: int, driver: str, token: str, facts: Mapping[str, Any]) -> Claim | None:
    """Take a run for a driver and mark it as running under the token of a new attempt.

    Of several drivers that claim a run at the same time, one gets it. A new run whose cell has been brought to an end
    by another driver in the meantime is deleted. A repetition is not: its cell always has a result.

    Args:
        database: open for writing.
        run: number of a run that is pending or stale, or that this driver runs and gives up to begin anew.
        driver: id of the driver.
        token: token of the new attempt.
        facts: columns of the run to set.

    Returns:
        The claim; None if the run cannot be had.
    """
    with database.session.begin() as session:
        row = session.get_one(RunRow, run, with_for_update=True)
        if row.token == token:
            # It was taken by an earlier call whose answer got lost.
            return Claim(row.attempt, row.superseded) if row.state is RunState.RUNNING else None
        mine = row.state is RunState.RUNNING and row.driver == driver
        if not row.state.claimable and not mine:
            return None
        earlier, brought_to_an_end = _earlier(session, row)
        if brought_to_an_end and row.attempt == 0:
            session.delete(row)
            return None
        # A new run goes on from the checkpoints that a failed run of its cell left.
        superseded = row.token or earlier
        # What was just read may have changed, since SQLite locks no rows; the condition decides.
        taken = session.execute(
            update(RunRow)
            .where(RunRow.id == run, RunRow.state == row.state, RunRow.attempt == row.attempt)
            .values(
                state=RunState.RUNNING,
                driver=driver,
                token=token,
                superseded=superseded,
                attempt=row.attempt + 1,
                started=row.started or max(now(), row.created),
                epoch=None,
                **facts,
            )
            .execution_options(synchronize_session=False)
        )
        return Claim(row.attempt + 1, superseded) if taken.rowcount == 1 else None  # type: ignore[attr-defined]


def _earlier(session: Session, row: RunRow) -> tuple[str | None, bool]:
    """The last token among the other runs of a run's key, and whether one of them is done or unsupported.

    A repetition starts from nothing, and no run starts from a repetition.
    """
    if row.repeats is not None:
        return None, False
    others = session.execute(
        select(RunRow.token, RunRow.state)
        .where(
            RunRow.identity == row.identity,
            RunRow.data_digest == row.data_digest,
            RunRow.device_class == row.device_class,
            RunRow.repeats.is_(None),
            RunRow.id != row.id,
        )
        .order_by(RunRow.id.desc())
    ).all()
    token = next((token for token, _ in others if token is not None), None)
    return token, any(state.final for _, state in others)


class Findings(NamedTuple):
    """What a finished run measured and kept besides the metrics that rank it, as columns of the rows to store.

    Attributes:
        evaluations: the measured values, in order.
        subjects: what the subjects named in `evaluations` are.
        weights: the files of weights that were kept.
    """

    evaluations: Sequence[Mapping[str, Any]] = ()
    subjects: Sequence[Mapping[str, Any]] = ()
    weights: Sequence[Mapping[str, Any]] = ()


NO_FINDINGS = Findings()


def finish_run(
    database: Database,
    run: int,
    token: str,
    fields: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    findings: Findings = NO_FINDINGS,
) -> bool:
    """Store how an attempt ended, unless it was cancelled or a later one has taken its place.

    Args:
        database: open for writing.
        run: number of the run.
        token: token of the attempt.
        fields: columns of the run to set.
        metrics: columns of the metrics that rank the run, the primary metric first; none of a run that is not done.
        findings: what else it measured and kept.

    Returns:
        Whether it is stored. It is also true if an earlier call, whose answer got lost, stored it.
    """
    with database.session.begin() as session:
        row = session.get_one(RunRow, run, with_for_update=True)
        if row.token != token or not (row.state.ended or row.state.under_way):
            return False
        if row.state.under_way:
            _end(session, row, fields, metrics, findings)
        uid, state = row.uid, RunState(row.state)
    database.ended[uid] = state
    return True


def _end(
    session: Session,
    row: RunRow,
    fields: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    findings: Findings,
) -> None:
    hold_current(session, alone=False)
    # Clocks are set back, and those of two machines differ; a run never ends before it began.
    row.finished = max(now(), row.started or row.created)
    for name, value in storable(fields).items():
        setattr(row, name, value)
    row.metrics = [MetricRow(position=position, **metric) for position, metric in enumerate(metrics)]
    row.evaluations = [
        EvaluationRow(position=number, **storable(one)) for number, one in enumerate(findings.evaluations)
    ]
    row.subjects = [SubjectRow(**storable(subject)) for subject in findings.subjects]
    row.weights = [WeightsRow(**file) for file in findings.weights]
    session.flush()
    # A failed run is not shown where the cell was brought to an end elsewhere, and imported meanwhile.
    if row.repeats is None and (RunState(row.state).final or not _earlier(session, row)[1]):
        # It is the newest whatever the clock says, which may have been set back.
        mark_current(session, RunKey(row.identity, row.data_digest, row.device_class), row.id)


def hold_current(session: Session, *, alone: bool) -> None:
    """Keep imports from choosing what boards show until the transaction ends; and finishing runs too, if `alone`.

    An import and a finishing run do not see what the other has not committed, and each would mark a run of its own as
    the one that boards show. A file has only one writer anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
        session.execute(select(lock(_CURRENT_LOCK)))
    elif alone:
        # The write lock is taken now: what is read before somebody else's change would make our own change fail.
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")


def mark_current(session: Session, key: RunKey, run: int) -> None:
    """Make a run the one that boards show of its key."""
    of_key = (
        RunRow.identity == key.identity,
        RunRow.data_digest == key.data_digest,
        RunRow.device_class == key.device_class,
    )
    session.execute(update(RunRow).where(*of_key, RunRow.current, RunRow.id != run).values(current=False))
    session.execute(update(RunRow).where(RunRow.id == run).values(current=True))


def note_attempt(database: Database, run: int, entry: Mapping[str, Any]) -> None:
    """Note with a run how an attempt ended that will not be its last."""
    with database.session.begin() as session:
        row = session.get_one(RunRow, run, with_for_update=True)
        row.attempts = [*(row.attempts or []), dict(entry)]


def release_runs(database: Database, runs: Iterable[int]) -> None:
    """Put runs that were stopped back to pending."""
    _move(database, runs, UNDER_WAY, RunState.PENDING)


def still_running(database: Database, tokens: Mapping[int, str]) -> set[int]:
    """The runs that are still running under their tokens, neither cancelled nor taken by another driver."""
    found: set[int] = set()
    with database.session() as session:
        for numbers in _chunks(list(tokens)):
            rows = session.execute(select(RunRow.id, RunRow.token, RunRow.state).where(RunRow.id.in_(numbers)))
            found |= {run for run, token, state in rows if state is RunState.RUNNING and token == tokens[run]}
    return found


def cancel_runs(
    database: Database,
    *,
    runs: Sequence[int] | None = None,
    grid: GridRuns | None = None,
    states: Sequence[RunState] = CANCELLABLE,
) -> int:
    """Cancel runs that are waiting, running or stale, and return how many.

    Args:
        database: open for writing, by a driver or beside one.
        runs: only these.
        grid: only runs of this grid.
        states: only those in one of these.
    """
    condition: list[Any] = [RunRow.state.in_(states)]
    if grid is not None:
        condition.append(grid.condition(database))
    if runs is None:
        return _set_state(database, condition, RunState.CANCELLED)
    return sum(
        _set_state(database, [*condition, RunRow.id.in_(some)], RunState.CANCELLED) for some in _chunks(list(runs))
    )


def states_of(database: Database, runs: Sequence[int]) -> dict[int, RunState]:
    """The states of runs, by number; numbers that the database does not have are left out."""
    found: dict[int, RunState] = {}
    with database.session() as session:
        for numbers in _chunks(runs):
            rows = session.execute(select(RunRow.id, RunRow.state).where(RunRow.id.in_(numbers)))
            found |= {number: state for number, state in rows}
    return found


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)


def _move(database: Database, runs: Iterable[int], states: tuple[RunState, ...], to: RunState) -> None:
    for numbers in _chunks(list(runs)):
        _set_state(database, [RunRow.id.in_(numbers), RunRow.state.in_(states)], to)


def _set_state(database: Database, condition: Sequence[Any], to: RunState) -> int:
    with database.session.begin() as session:
        changed: Any = session.execute(
            update(RunRow).where(*condition).values(state=to).execution_options(synchronize_session=False)
        )
        return int(changed.rowcount)


def _chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
