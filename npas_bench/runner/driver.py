"""The driver: finds what is left of a set of cells, has it run, and is the only one that writes results."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal, NamedTuple

from npas_bench.runner.cell import IDENTITY_VERSION
from npas_bench.runner.device import describe_device, device_class
from npas_bench.runner.executors import Listener
from npas_bench.runner.provenance import code
from npas_bench.runner.work import Engine, Work
from npas_bench.store.runs import (
    UNFINISHED,
    RunKey,
    add_runs,
    finish_run,
    newest_runs,
    release_runs,
    start_run,
)
from npas_bench.training.checkpoint import remove_checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from npas_bench.runner.cell import Cell
    from npas_bench.runner.executors import Executor
    from npas_bench.runner.progress import Reporter
    from npas_bench.runner.work import Outcome
    from npas_bench.store.database import Store
    from npas_bench.store.runs import RunState
    from npas_bench.tasks import Source
    from npas_bench.training.loop import EpochReport

Only = Literal["failed", "missing"]


class Item(NamedTuple):
    """A cell with what this machine would run it on.

    Attributes:
        cell: the cell.
        full: trainable scalars of its full architecture.
        source: its task's data here.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    cell: Cell
    full: int
    source: Source
    device: str

    @property
    def key(self) -> RunKey:
        """What there is one finished run of."""
        return RunKey(self.cell.identity, self.source.digest, device_class(self.device))


# No switch is on.
ENGINE = Engine()


class Summary(NamedTuple):
    """How many cells ended how, those finished before included."""

    done: int
    unsupported: int
    failed: int


def left_over(items: Sequence[Item], newest: Mapping[RunKey, RunState], only: Only | None) -> list[Item]:
    """The cells that are to run: those without a finished run.

    Args:
        items: all cells.
        newest: the newest run of each, where there is one.
        only: `missing` leaves out failed ones, `failed` leaves out all others.
    """
    left = []
    for item in items:
        state = newest[item.key].state if item.key in newest else "missing"
        if state in ("done", "unsupported"):
            continue
        if only is None or (state == "failed") == (only == "failed"):
            left.append(item)
    return left


def run_items(
    items: Sequence[Item],
    store: Store,
    executor: Executor,
    reporter: Reporter,
    *,
    grid: str | None = None,
    only: Only | None = None,
    engine: Engine = ENGINE,
) -> Summary:
    """Run whatever is left of `items`; an interrupted run goes on from its last epoch.

    Args:
        items: every cell of the grid.
        store: open for writing.
        executor: runs cells.
        reporter: shows progress.
        grid: the grid's name, noted on new runs.
        only: see `left_over`.
        engine: switches for every cell.
    """
    newest = newest_runs(store, (item.key for item in items))
    left = left_over(items, newest, only)
    runs = _runs_for(left, newest, store, grid)
    running = {item.key for item in left}
    before = [newest[item.key].state for item in items if item.key not in running and item.key in newest]
    for item in items:
        if item.key in newest and newest[item.key].state in ("done", "unsupported"):
            # Left behind by a driver that died between storing a result and tidying up.
            remove_checkpoints(_folder(store, item))
    listener = _Recorder(store, reporter, runs)
    works = [Work(item.cell, item.source, item.device, _folder(store, item), "", engine) for item in left]
    reporter.begin(left=len(left), before=len(items) - len(left))
    try:
        if works:
            executor.run(works, listener)
    finally:
        # Whatever stopped the executor, the next driver shall find these as work to do.
        release_runs(store, listener.running)
        reporter.end()
    states = [*before, *listener.states]
    return Summary(*(states.count(state) for state in ("done", "unsupported", "failed")))


def _runs_for(
    left: Sequence[Item], newest: Mapping[RunKey, RunState], store: Store, grid: str | None
) -> dict[str, int]:
    """The run of each cell to go on with: one that was left unfinished, or a new one."""
    going_on = {
        item.cell.identity: newest[item.key].id
        for item in left
        if item.key in newest and newest[item.key].state in UNFINISHED
    }
    fresh = [item for item in left if item.cell.identity not in going_on]
    ids = add_runs(
        store,
        [_cell_fields(item) for item in fresh],
        [
            {
                "identity": item.cell.identity,
                "grid": grid,
                "data_name": item.source.name,
                "data_label": item.source.label,
                "data_digest": item.source.digest,
                "data_official": item.source.official,
                "device_class": device_class(item.device),
                "device": describe_device(item.device),
            }
            for item in fresh
        ],
    )
    return going_on | {item.cell.identity: run for item, run in zip(fresh, ids, strict=True)}


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
        "recipe": cell.recipe.model_dump(mode="json"),
        "recipe_name": cell.recipe.name,
        "seed": cell.seed,
    }


def _folder(store: Store, item: Item) -> Path:
    key = item.key
    return store.location.work_folder / f"{key.identity[:20]}-{key.data_digest[:8]}-{key.device_class}"


class _Recorder(Listener):
    def __init__(self, store: Store, reporter: Reporter, runs: Mapping[str, int]) -> None:
        self._store = store
        self._reporter = reporter
        self._runs = runs
        self._running: dict[str, int] = {}
        self._code = code()
        self.states: list[str] = []

    @property
    def running(self) -> list[int]:
        """Runs that were started and have not ended."""
        return list(self._running.values())

    def started(self, work: Work) -> Work:
        identity = work.cell.identity
        token = secrets.token_hex(8)
        # A run that goes on is named after the code and device that bring it to its end.
        facts = {**self._code._asdict(), "device": describe_device(work.device)}
        start_run(self._store, self._runs[identity], token, facts)
        self._running[identity] = self._runs[identity]
        self._reporter.started(work.cell)
        return work._replace(token=token)

    def progressed(self, work: Work, report: EpochReport) -> None:
        self._reporter.progressed(work.cell, report)

    def finished(self, work: Work, outcome: Outcome) -> None:
        identity = work.cell.identity
        fields = outcome.model_dump(mode="json", exclude={"metrics", "resumable"})
        fields["parameters"] = outcome.ledger.total if outcome.ledger else None
        fields["seconds_per_step"] = outcome.cost.seconds_per_step if outcome.cost else None
        stored = finish_run(
            self._store, self._runs[identity], work.token, fields, [metric.model_dump() for metric in outcome.metrics]
        )
        self._running.pop(identity, None)
        if stored:
            # Only now: a driver that dies before the result is stored finds the last epoch again.
            if not outcome.resumable:
                remove_checkpoints(work.folder)
            self.states.append(outcome.state)
            self._reporter.finished(work.cell, outcome)
