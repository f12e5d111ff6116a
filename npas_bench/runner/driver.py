"""The driver: finds what is left of a set of cells, has it run, and is the only one that writes their results.

Several drivers may be at work on one database: a cell is claimed before it is run, and what another driver has is
waited for, and taken over should that driver die.
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
from npas_bench.runner.device import device_class
from npas_bench.runner.item import Item, Only, left_over
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.recorder import Recorder, device_name, run_folder
from npas_bench.runner.work import Engine, Keep, Work, weights_folder
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
    """On what terms cells are run.

    Attributes:
        grid: the grid's name, noted on new runs.
        only: see `left_over`.
        engine: switches for every cell.
        deadline: seconds that an attempt at a cell may take; None for no limit.
        folder: for checkpoints, which every worker sees; left out, the database's own.
        expected: what cells are expected to need, by identity; those that take longest come first.
        keep: whether the weights of cells that get done are kept; see `weights_folder`.
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
        seconds: of training and evaluation.
        memory: bytes at its peak; None where nothing is known.
    """

    seconds: float
    memory: int | None = None


DEFAULT_TERMS = Terms()


class Summary(NamedTuple):
    """How many cells ended how, those finished before included."""

    done: int
    unsupported: int
    failed: int


def run_items(
    items: Sequence[Item],
    database: Database,
    executor: Executor,
    reporter: Reporter,
    terms: Terms = DEFAULT_TERMS,
) -> Summary:
    """Run whatever is left of `items`; an interrupted run goes on from its last epoch.

    Args:
        items: every cell of the grid.
        database: open for writing.
        executor: runs cells.
        reporter: shows progress.
        terms: on what terms.

    Raises:
        DatabaseError: if a driver of other code is at work on the database.
    """
    me = patiently(enter, database, CodeVersion(__version__, source_digest()))
    recorder = Recorder(database, me, reporter, _root(database, terms))
    try:
        with _heartbeat(database, me, recorder):
            return _run(items, database, executor, reporter, recorder, terms)
    finally:
        # Whatever stopped the executor, the next driver shall find these as work to do.
        _unregister(database, me)
        reporter.end()


def _run(
    items: Sequence[Item], database: Database, executor: Executor, reporter: Reporter, recorder: Recorder, terms: Terms
) -> Summary:
    newest = _newest(database, items)
    for item in items:
        if item.repeats is not None and item.key in newest and newest[item.key].state.ended:
            # However often a run was repeated before, it is repeated once more.
            del newest[item.key]
    left = _in_order(left_over(items, newest, terms.only), terms)
    recorder.runs = _runs_for(left, newest, database, terms.grid)
    going_on = {item.key for item in left}
    before = [newest[item.key].state for item in items if item.key not in going_on and item.key in newest]
    root = _root(database, terms)
    for item in items:
        if item.key in newest and newest[item.key].state.final:
            # Left behind by a driver that died between storing a result and tidying up.
            remove_checkpoints(run_folder(root, item.cell.identity, item.source, item.device))
    reporter.begin(left=len(left), before=len(items) - len(left))
    free = left
    while free:
        executor.run([_work(database, item, terms) for item in free], recorder)
        # Of all that was left: while some cells of a dead driver are run, others are still with a live one.
        free = _others_left(left, database, recorder)
    states = [*before, *recorder.states]
    return Summary(*(states.count(state) for state in (RunState.DONE, RunState.UNSUPPORTED, RunState.FAILED)))


def _newest(database: Database, items: Sequence[Item]) -> dict[RunKey, StoredRun]:
    """The newest run of each cell that has one, or, of a run that is to be repeated, its newest repetition."""
    found = patiently(newest_runs, database, [item.key for item in items if item.repeats is None])
    repeated = {item.repeats: item.key for item in items if item.repeats is not None}
    repetitions = patiently(newest_repetitions, database, list(repeated))
    return found | {repeated[uid]: run for uid, run in repetitions.items()}


def to_repeat(items: Sequence[Item], database: Database) -> list[Item]:
    """The same cells, where those that are done are to be run again, as repetitions of the runs that boards show."""
    newest = patiently(newest_runs, database, [item.key for item in items])
    done = [newest[item.key].id for item in items if item.key in newest and newest[item.key].state is RunState.DONE]
    uids = patiently(uids_of, database, done)
    return [item._replace(repeats=uids.get(newest[item.key].id)) if item.key in newest else item for item in items]


def _in_order(items: list[Item], terms: Terms) -> list[Item]:
    """Longest first, so that no long one is left over when all others are done; alike ones as the grid has them."""
    expected = terms.expected
    if not expected:
        return items
    return sorted(items, key=lambda item: -round(expected[item.cell.identity].seconds, 1))


def _work(database: Database, item: Item, terms: Terms) -> Work:
    expected = (terms.expected or {}).get(item.cell.identity)
    return Work(
        item.cell,
        item.source,
        item.device,
        # Each has one of its own under it from when it is started: a hundred thousand paths are not small.
        _root(database, terms),
        "",
        terms.engine,
        deadline=terms.deadline,
        memory=expected.memory if expected else None,
        keep=Keep(weights_folder(_root(database, terms))) if terms.keep else None,
        repeats=item.repeats,
    )


def _others_left(items: Sequence[Item], database: Database, recorder: Recorder) -> list[Item]:
    """Wait until cells that other drivers have are finished, or left behind; those left behind."""
    others = [item for item in items if item.cell.identity not in recorder.settled]
    while others:
        patiently(reap, database, recorder.driver)
        newest = _newest(database, others)
        for item in others:
            if not newest[item.key].state.cancellable:
                recorder.settle(item.cell, newest[item.key].state)
        free = [item for item in others if newest[item.key].state.claimable]
        if free:
            return free
        others = [item for item in others if newest[item.key].state is RunState.RUNNING]
        if others:
            time.sleep(_LOOK_SECONDS)
    return []


def _runs_for(
    left: Sequence[Item], newest: Mapping[RunKey, StoredRun], database: Database, grid: str | None
) -> dict[str, int]:
    """The run of each cell to go on with: one that was left unfinished, or a new one."""
    there = [newest[item.key] for item in left if item.key in newest]
    cancelled = [run.id for run in there if run.state is RunState.CANCELLED]
    patiently(reopen_runs, database, cancelled)
    going_on = {
        item.cell.identity: newest[item.key].id for item in left if item.key in newest and newest[item.key].state.open
    }
    fresh = [item for item in left if item.cell.identity not in going_on]
    # Of a hundred thousand, all rows at once would take as much memory as a small network's training.
    for start in range(0, len(fresh), _STORED_AT_ONCE):
        some = fresh[start : start + _STORED_AT_ONCE]
        ids = patiently(
            add_runs, database, [_cell_fields(item) for item in some], [_run_fields(item, grid) for item in some]
        )
        going_on |= {item.cell.identity: run for item, run in zip(some, ids, strict=True)}
    return going_on


def _run_fields(item: Item, grid: str | None) -> dict[str, object]:
    return {
        "identity": item.cell.identity,
        "repeats": item.repeats,
        "grid": grid,
        "data_name": item.source.name,
        "data_label": item.source.label,
        "data_digest": item.source.digest,
        "data_official": item.source.official,
        "device_class": device_class(item.device),
        "device": device_name(item.device),
    }


@lru_cache
def _recipe_fields(recipe: Recipe) -> dict[str, object]:
    return recipe.model_dump(mode="json")


def _cell_fields(item: Item) -> dict[str, object]:
    cell = item.cell
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
        "full": item.full,
        "recipe": _recipe_fields(cell.recipe),
        "recipe_name": cell.recipe.name,
        "seed": cell.seed,
    }


def _root(database: Database, terms: Terms) -> Path:
    return terms.folder or database.location.work_folder


@contextmanager
def _heartbeat(database: Database, me: str, recorder: Recorder) -> Iterator[None]:
    """While the block runs, say that this driver lives, and look which of its runs are wanted no more."""
    stop = threading.Event()

    def go() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                beat(database, me, recorder.epochs())
                recorder.look()
            # Whoever needs the database says so; without this one, the others would take this driver for dead.
            except Exception as error:
                log.info("no heartbeat: %s", error)

    thread = threading.Thread(target=go, name="heart", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)


def _unregister(database: Database, me: str) -> None:
    try:
        leave(database, me)
    except SQLAlchemyError as error:
        log.warning("the database does not answer; what was running there is taken up by the next run: %s", error)
