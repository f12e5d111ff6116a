"""Running one cell, in whichever process: build, refuse, train, evaluate, count again."""

from __future__ import annotations

import logging
import statistics
import time
import traceback
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from npas_bench import plugins
from npas_bench.database.states import RunState
from npas_bench.errors import (
    CheckpointError,
    Diverged,
    NpasBenchError,
    StorageError,
    UnsupportedBudget,
)
from npas_bench.network import GeneratedNetwork
from npas_bench.runner.build import Built, build_network, count_again, problem_of
from npas_bench.runner.device import describe_device
from npas_bench.runner.failures import Overdue, out_of_memory, overdue_outcome, unstorable_outcome
from npas_bench.runner.kept import keep_weights
from npas_bench.runner.machine import begin_peak_memory, host_class, peak_memory, versions
from npas_bench.runner.together import run_together
from npas_bench.runner.work import Cost, Outcome, Work
from npas_bench.training.checkpoint import CheckpointFolder
from npas_bench.training.evaluation import evaluate, not_finite
from npas_bench.training.flops import count_forward_flops
from npas_bench.training.loop import EpochReport, TrainingContext
from npas_bench.training.parallel import ALONE, Processes
from npas_bench.training.search import Search
from npas_bench.training.stages import Fit, run_stages
from npas_bench.training.stopping import split_training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from npas_bench.allocation import Reading
    from npas_bench.network import Network

log = logging.getLogger(__name__)


def execute(work: Work, on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """Run a cell to its end; whatever goes wrong is an outcome, not an exception."""
    begin_peak_memory()
    if work.engine.processes == 1:
        outcome = _attempt(work, on_epoch, ALONE)
        assert outcome is not None  # noqa: S101 (only of several processes all but the first have none)
        return outcome
    try:
        return run_together(work, _attempt, on_epoch)
    except StorageError as error:
        return unstorable_outcome(error, versions=versions(), host=host_class())
    except NpasBenchError as error:
        return Outcome(state=RunState.FAILED, message=str(error), versions=versions(), host=host_class())


def _attempt(work: Work, on_epoch: Callable[[EpochReport], None], processes: Processes) -> Outcome | None:
    """Run a cell, or take part in it; None is the outcome of all but the first process where nothing goes wrong."""
    facts: dict[str, Any] = {
        "versions": versions(),
        "host": host_class(),
        "device": describe_device(work.device),
    }
    reports: list[EpochReport] = []
    begun = time.monotonic()

    def note(report: EpochReport) -> None:
        reports.append(report)
        on_epoch(report)
        over = work.deadline is not None and time.monotonic() - begun > work.deadline
        if over and processes.rank == 0 and report.epoch < work.cell.recipe.epochs:
            raise Overdue(report.epoch)

    try:
        outcome = _run(work, note, processes)
        return None if outcome is None else outcome.model_copy(update=facts)
    except UnsupportedBudget as unsupported:
        return Outcome(
            state=RunState.UNSUPPORTED,
            message=str(unsupported),
            smallest=unsupported.smallest,
            largest=unsupported.largest,
            **facts,
        )
    except Diverged as diverged:
        return Outcome(state=RunState.FAILED, message=str(diverged), history=diverged.history, **facts)
    except StorageError as error:
        if processes.count > 1:
            raise
        return unstorable_outcome(error, **facts)
    except Overdue as overdue:
        return overdue_outcome(work, overdue.epoch, history=[report.entry() for report in reports], **facts)
    # The grid's other cells go on whatever is wrong with this one.
    except Exception as error:
        log.debug("%s failed", work.cell, exc_info=True)
        short = out_of_memory(work, error)
        return Outcome(
            state=RunState.FAILED,
            message=short or f"{type(error).__name__}: {error}",
            cause="memory" if short else None,
            detail=traceback.format_exc(),
            history=[report.entry() for report in reports],
            **facts,
        )


def _run(work: Work, on_epoch: Callable[[EpochReport], None], processes: Processes) -> Outcome | None:
    cell, device = work.cell, _device(work, processes)
    task = plugins.task(cell.task)
    if task.source().digest != work.source.digest:
        raise CheckpointError(f"the data of task {cell.task} differs here from the driver's: {task.source().label}")
    split = split_training(task, cell.recipe, cell.seed)
    examples = split.train.to(device)
    validation = None if split.validation is None else split.validation.to(device)
    checkpoints = CheckpointFolder(work.folder, cell.identity, work.source.digest, work.token)
    last = checkpoints.latest()
    search = Search(task, examples, cell.recipe, cell.seed, cell.identity, device)
    structure = last.structure if last is not None else None
    built: Built | None = None
    if processes.rank == 0:
        built = build_network(cell, problem_of(cell, task, search, structure))
        structure = built.network.structure()
    # A search is one process's: all build what it decided.
    structure = processes.tell(structure)
    network, ledger = built or build_network(cell, problem_of(cell, task, None, structure))
    searched = search.seconds if last is None else last.search_seconds
    network = _prepared(network, work, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def rebuild(structure: Mapping[str, Any]) -> Network:
        return _prepared(build_network(cell, problem_of(cell, task, None, structure)).network, work, device)

    context = TrainingContext(
        task=task,
        examples=examples,
        recipe=cell.recipe,
        seed=cell.seed,
        identity=cell.identity,
        source=work.source.digest,
        device=device,
        search_seconds=searched,
        processes=processes,
        compiled=work.engine.compiled,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
        validation=validation,
        rebuild=rebuild,
    )
    trained = run_stages((Fit(),), network, context)
    network, history = trained.network, [report.entry() for report in trained.history]
    peak = processes.largest(peak_memory(device))
    seen = (*examples.unreadable, *(() if validation is None else validation.unreadable))
    unreadable = {*chain(*processes.gather(seen))}
    if processes.rank:
        return None
    ledger = count_again(network, ledger, trained.before, checkpoints, cell)
    begun = time.perf_counter()
    test = task.data("test").to(device)
    evaluation = evaluate(task, network, test, cell.recipe, device)
    evaluated = time.perf_counter() - begun
    wrong = not_finite(evaluation)
    if wrong:
        raise Diverged(f"in {', '.join(wrong)}", history)
    epochs = [report.seconds for report in trained.history]
    kept = [] if work.keep is None else [keep_weights(work, work.keep, network, test)]
    return Outcome(
        state=RunState.DONE,
        ledger=ledger,
        metrics=evaluation.ranking,
        evaluations=evaluation.others,
        subjects=list(evaluation.subjects),
        history=history,
        reported_epoch=trained.reported_epoch,
        cost=Cost(
            train_seconds=searched + sum(epochs),
            search_seconds=searched,
            seconds_per_step=statistics.median_high(report.seconds_per_step for report in trained.history),
            seconds_per_epoch=statistics.median(epochs[1:] or epochs),
            evaluate_seconds=evaluated,
            peak_memory=max(peak, peak_memory(device)),
            forward_flops=count_forward_flops(network, problem_of(cell, task), task),
            generation_flops=network.generation_flops(),
            engine=work.engine.names(),
        ),
        sharing=[_plain(reading) for reading in network.sharing()],
        structure=network.structure(),
        weights=kept,
        message=_left_out((*sorted(unreadable), *test.unreadable)),
    )


def _prepared(network: Network, work: Work, device: torch.device) -> Network:
    """The network on the device, with the engine's switches."""
    if isinstance(network, GeneratedNetwork):
        network.regenerate_in_backward = work.engine.regenerate
    return network.to(device)


def _plain(reading: Reading) -> list[Any]:
    """A reading as JSON has it, without coefficients where there are none."""
    *fields, coefficients = reading
    return fields if coefficients is None else [*fields, list(coefficients)]


def _device(work: Work, processes: Processes) -> torch.device:
    if work.device == "cuda" and processes.count > 1:
        return torch.device("cuda", processes.rank)
    return torch.device(work.device)


def _left_out(unreadable: tuple[str, ...]) -> str | None:
    """What to say of examples that could not be read."""
    if not unreadable:
        return None
    names = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
    return f"{len(unreadable)} unreadable examples were left out: {names}"
