"""The driver: finds what is left of a set of cells, has it run, and is the only one that writes their results.

Several drivers may be at work on one database. A driver claims a cell before it runs it, waits for the cells that
other drivers have, and takes them over should those drivers die.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from npas_bench import __version__
from npas_bench.cells.cell import IDENTITY_VERSION
from npas_bench.database.drivers import HEARTBEAT_SECONDS, CodeVersion, beat, enter, leave, reap
from npas_bench.database.patience import patiently
from npas_bench.database.runs import (
    add_runs,
    newest_repetitions,
    newest_runs,
    reopen_runs,
    uids_of,
)
from npas_bench.database.states import RunState
from npas_bench.plugin_code import plugin_code
from npas_bench.runner.device import device_class
from npas_bench.runner.lost_checkpoints import lost_checkpoints
from npas_bench.runner.planned import Only, PlannedCell, left_over
from npas_bench.runner.plugin_changes import plugin_changes
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.recorder import Recorder, device_name, run_folder
from npas_bench.runner.work import Engine, Work, weights_folder
from npas_bench.training.checkpoint import remove_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from npas_bench.database.keys import RunKey
    from npas_bench.database.opening import Database
    from npas_bench.database.runs import StoredRun
    from npas_bench.recipe import Recipe
    from npas_bench.runner.executors import Executor
    from npas_bench.runner.progress import Reporter

log = logging.getLogger(__name__)

_STORED_AT_ONCE = 2000
# How often cells that other drivers have are looked at.
_LOOK_SECONDS = 2.0


class Terms(NamedTuple):
    """The terms on which cells are run.

    Attributes:
        grid: the grid's name, which is stored with new runs.
        only: which cells are run; see `left_over`.
        engine: the engine's switches for every cell.
        deadline: seconds that an attempt at a cell may take; None for no limit.
        folder: the folder for checkpoints, which every worker sees; None takes the database's own.
        expected: what cells are expected to need, by identity; those that take longest come first.
        keep: whether the weights of finished cells are kept; see `weights_folder`.
    """

    grid: str | None = None
    only: Only | None = None
    engine: Engine = Engine()
    deadline: float | None = None
    folder: Path | None = None
    expected: Mapping[str, Expected] | None = None
    keep: bool = False


class Expected(NamedTuple):
    """What a cell is expected to need.

    Attributes:
        seconds: seconds of training and evaluation.
        memory: bytes at its peak; None if that is not known.
    """

    seconds: float
    memory: int | None = None


DEFAULT_TERMS = Terms()


class Summary(NamedTuple):
    """How many cells ended in each state, including those that were finished before."""

    done: int
    unsupported: int
    failed: int


def run_planned(
    planned: Sequence[PlannedCell],
    database: Database,
    executor: Executor,
    reporter: Reporter,
    terms: Terms = DEFAULT_TERMS,
) -> Summary:
    """Run whatever is left of `planned`; an interrupted run goes on from its last epoch.

    Args:
        planned: every cell of the grid.
        database: open for writing.
        executor: runs the cells.
        reporter: shows the progress.
        terms: the terms on which they are run.

    Raises:
        DatabaseError: if a driver that runs other code is at work on the database.
    """
    driver = patiently(enter, database, CodeVersion(__version__, source_digest()))
    root = _root(database, terms)
    try:
        with _heartbeat(database, driver):
            left = _find_left(planned, database, terms)
            _tidy_up(planned, left, root)
        reporter.begin(left=len(left.cells), before=len(planned) - len(left.cells))
        recorder = Recorder(database, driver, reporter, root, left.runs)
        with _heartbeat(database, driver, recorder):
            _run(left.cells, database, executor, recorder, terms)
        states = [*left.before, *recorder.states]
        return Summary(*(states.count(state) for state in (RunState.DONE, RunState.UNSUPPORTED, RunState.FAILED)))
    finally:
        # Whatever stopped the executor, the next driver must find the runs that are not finished as work to do.
        _unregister(database, driver)
        reporter.end()


class _Left(NamedTuple):
    """What is left to run.

    Attributes:
        cells: the cells, in the order in which they are to run.
        runs: the run of each cell that this driver or another one is to carry out, by the cell's identity.
        before: the states of the newest runs of all other cells that have one.
        finished: the keys of the cells that are finished.
    """

    cells: list[PlannedCell]
    runs: dict[str, int]
    before: list[RunState]
    finished: set[RunKey]


def _find_left(planned: Sequence[PlannedCell], database: Database, terms: Terms) -> _Left:
    newest = _newest(database, planned)
    for one in planned:
        if one.repeats is not None and one.key in newest and newest[one.key].state.ended:
            # However often a run was repeated before, it is repeated once more.
            del newest[one.key]
    for change in plugin_changes(planned, newest, database, _root(database, terms)):
        log.warning("%s", change)
    cells = _in_order(left_over(planned, newest, terms.only), terms)
    lost = lost_checkpoints(cells, newest, database, _root(database, terms))
    if lost is not None:
        log.warning("%s", lost)
    going_on = {one.key for one in cells}
    return _Left(
        cells=cells,
        runs=_runs_for(cells, newest, database, terms.grid),
        before=[newest[one.key].state for one in planned if one.key not in going_on and one.key in newest],
        finished={key for key, run in newest.items() if run.state.final},
    )


def _tidy_up(planned: Sequence[PlannedCell], left: _Left, root: Path) -> None:
    """Remove the checkpoints of a driver that died after it had stored a result and before it removed them."""
    for one in planned:
        if one.key in left.finished:
            remove_checkpoints(run_folder(root, one.cell.identity, one.source, one.device))


def _run(left: Sequence[PlannedCell], database: Database, executor: Executor, recorder: Recorder, terms: Terms) -> None:
    keep = weights_folder(_root(database, terms)) if terms.keep else None
    free = left
    while free:
        executor.run([_work(one, keep, terms) for one in free], recorder)
        # All cells are looked at again: while this driver ran what a dead one had left, others were with a live one.
        free = _others_left(left, database, recorder)


def _newest(database: Database, planned: Sequence[PlannedCell]) -> dict[RunKey, StoredRun]:
    """The newest run of each cell that has one, or, of a run that is to be repeated, its newest repetition."""
    found = patiently(newest_runs, database, [one.key for one in planned if one.repeats is None])
    repeated = {one.repeats: one.key for one in planned if one.repeats is not None}
    repetitions = patiently(newest_repetitions, database, list(repeated))
    return found | {repeated[uid]: run for uid, run in repetitions.items()}


def to_repeat(planned: Sequence[PlannedCell], database: Database) -> list[PlannedCell]:
    """The same cells, where those that are done are to be run again, as repetitions of the runs that boards show."""
    newest = patiently(newest_runs, database, [one.key for one in planned])
    done = [newest[one.key].id for one in planned if one.key in newest and newest[one.key].state is RunState.DONE]
    uids = patiently(uids_of, database, done)
    return [one._replace(repeats=uids.get(newest[one.key].id)) if one.key in newest else one for one in planned]


def _in_order(planned: list[PlannedCell], terms: Terms) -> list[PlannedCell]:
    """The cells with the longest first, so that no long one begins last; equally long ones keep the grid's order."""
    expected = terms.expected
    if not expected:
        return planned
    return sorted(planned, key=lambda one: -round(expected[one.cell.identity].seconds, 1))


def _work(one: PlannedCell, keep: Path | None, terms: Terms) -> Work:
    expected = (terms.expected or {}).get(one.cell.identity)
    return Work(
        cell=one.cell,
        source=one.source,
        device=one.device,
        engine=terms.engine,
        deadline=terms.deadline,
        memory=expected.memory if expected else None,
        keep=keep,
        repeats=one.repeats,
        plugins=plugin_code(one.cell.task, one.cell.architecture, one.cell.method),
    )


def _others_left(planned: Sequence[PlannedCell], database: Database, recorder: Recorder) -> list[PlannedCell]:
    """Wait until the cells that other drivers have are finished or left behind, and return those left behind."""
    others = [one for one in planned if one.cell.identity not in recorder.settled]
    while others:
        patiently(reap, database, recorder.driver)
        newest = _newest(database, others)
        for one in others:
            if not newest[one.key].state.cancellable:
                recorder.settle(one.cell, newest[one.key].state)
        free = [one for one in others if newest[one.key].state.claimable]
        if free:
            return free
        others = [one for one in others if newest[one.key].state is RunState.RUNNING]
        if others:
            time.sleep(_LOOK_SECONDS)
    return []


def _runs_for(
    left: Sequence[PlannedCell], newest: Mapping[RunKey, StoredRun], database: Database, grid: str | None
) -> dict[str, int]:
    """The run of each cell to go on with: an unfinished one, or a new one."""
    there = [newest[one.key] for one in left if one.key in newest]
    cancelled = [run.id for run in there if run.state is RunState.CANCELLED]
    patiently(reopen_runs, database, cancelled)
    going_on = {
        one.cell.identity: newest[one.key].id for one in left if one.key in newest and newest[one.key].state.open
    }
    fresh = [one for one in left if one.cell.identity not in going_on]
    # All rows of a hundred thousand cells at once would take as much memory as the training of a small network.
    for start in range(0, len(fresh), _STORED_AT_ONCE):
        some = fresh[start : start + _STORED_AT_ONCE]
        ids = patiently(
            add_runs, database, [_cell_fields(one) for one in some], [_run_fields(one, grid) for one in some]
        )
        going_on |= {one.cell.identity: run for one, run in zip(some, ids, strict=True)}
    return going_on


def _run_fields(one: PlannedCell, grid: str | None) -> dict[str, object]:
    return {
        "identity": one.cell.identity,
        "repeats": one.repeats,
        "grid": grid,
        "data_name": one.source.name,
        "data_label": one.source.label,
        "data_digest": one.source.digest,
        "data_official": one.source.official,
        "device_class": device_class(one.device),
        "device": device_name(one.device),
    }


@lru_cache
def _recipe_fields(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(mode="json")


def _cell_fields(one: PlannedCell) -> dict[str, object]:
    cell = one.cell
    return {
        "identity": cell.identity,
        "identity_version": IDENTITY_VERSION,
        "canonical": cell.canonical,
        "task": cell.task,
        "architecture": cell.architecture,
        "method": cell.method,
        "task_version": cell.task_version,
        "method_version": cell.method_version,
        "options": dict(cell.options),
        "budget": cell.budget,
        "budget_text": cell.budget_text,
        "full": one.full,
        "recipe": _recipe_fields(cell.recipe),
        "recipe_name": cell.recipe.name,
        "seed": cell.seed,
    }


def _root(database: Database, terms: Terms) -> Path:
    return terms.folder or database.location.work_folder


@contextmanager
def _heartbeat(database: Database, driver: str, recorder: Recorder | None = None) -> Iterator[None]:
    """While the block runs, say that this driver lives, and let the recorder look which runs are still wanted."""
    stop = threading.Event()

    def go() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                beat(database, driver, recorder.epochs() if recorder else {})
                if recorder:
                    recorder.look()
            # The driver reports itself that the database fails. Without this thread, others would take it for dead.
            except Exception as error:
                log.info("no heartbeat: %s", error)

    thread = threading.Thread(target=go, name="heart", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)


def _unregister(database: Database, driver: str) -> None:
    try:
        leave(database, driver)
    except SQLAlchemyError as error:
        log.warning("the database does not answer; what was running there is taken up by the next run: %s", error)
