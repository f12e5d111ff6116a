"""Running one cell, in whichever process: building, training, evaluating and counting again."""

from __future__ import annotations

import logging
import statistics
import time
import traceback
from itertools import chain
from typing import TYPE_CHECKING, Any

from npas_bench import plugins
from npas_bench.database.states import RunState
from npas_bench.errors import Diverged, NpasBenchError, StorageError, UnsupportedBudget
from npas_bench.loose_values import LooseValues
from npas_bench.runner.build import count_again, problem_of
from npas_bench.runner.device import describe_device
from npas_bench.runner.failures import Overdue, out_of_memory, overdue_outcome, unstorable_outcome
from npas_bench.runner.kept import keep_weights
from npas_bench.runner.machine import begin_peak_memory, host_class, peak_memory, versions
from npas_bench.runner.preparation import prepare
from npas_bench.runner.together import run_together
from npas_bench.runner.work import Attempt, Cost, Outcome, Work
from npas_bench.training.evaluation import evaluate, not_finite
from npas_bench.training.flops import count_forward_flops
from npas_bench.training.parallel import ALONE
from npas_bench.training.stages import Fit, run_stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from npas_bench.allocation import Reading
    from npas_bench.training.loop import EpochReport, TrainingContext
    from npas_bench.training.parallel import Processes
    from npas_bench.training.stages import TrainingState

log = logging.getLogger(__name__)


def execute(attempt: Attempt, on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """Run a cell to its end. Whatever goes wrong becomes an outcome, not an exception."""
    begin_peak_memory()
    if attempt.work.engine.processes == 1:
        outcome = _take_part(attempt, on_epoch, ALONE)
        assert outcome is not None  # noqa: S101 (only of several processes all but the first have none)
        return outcome
    try:
        return run_together(attempt, _take_part, on_epoch)
    except StorageError as error:
        return unstorable_outcome(error, versions=versions(), host=host_class())
    except NpasBenchError as error:
        return Outcome(state=RunState.FAILED, message=str(error), versions=versions(), host=host_class())


def _take_part(attempt: Attempt, on_epoch: Callable[[EpochReport], None], processes: Processes) -> Outcome | None:
    """Run a cell or take part in it; where nothing goes wrong, only the first process has an outcome."""
    work = attempt.work
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

    def look_at_the_clock(epoch: int) -> None:
        over = work.deadline is not None and time.monotonic() - begun > work.deadline
        if over and processes.rank == 0:
            raise Overdue(epoch)

    try:
        with plugins.kept_from_exiting(work.cell.task, work.cell.architecture, work.cell.method):
            outcome = _run(attempt, processes, note, look_at_the_clock)
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
    # Whatever is wrong with this cell, the other cells of the grid go on.
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


def _run(
    attempt: Attempt,
    processes: Processes,
    on_epoch: Callable[[EpochReport], None],
    before_next: Callable[[int], None],
) -> Outcome | None:
    work = attempt.work
    prepared = prepare(attempt, processes)
    packages = plugins.third_party_packages(work.cell.task, work.cell.architecture, work.cell.method)
    loose = LooseValues(prepared.network, work.cell.method, packages)
    context = prepared.context._replace(on_epoch=on_epoch, before_next=before_next, after_training=loose.refuse_changed)
    if packages:
        context = context._replace(after_first_step=loose.look)
    trained = run_stages((Fit(),), prepared.network, context)
    peak = processes.largest(peak_memory(context.device))
    unreadable = {*chain(*processes.gather(prepared.unreadable()))}
    if processes.rank:
        return None
    ledger = count_again(trained.network, prepared.ledger, trained.before, prepared.checkpoints, work.cell)
    begun = time.perf_counter()
    test = context.task.data("test").to(context.device)
    evaluation = evaluate(context.task, trained.network, test, work.cell.recipe, context.device)
    evaluated = time.perf_counter() - begun
    wrong = not_finite(evaluation)
    if wrong:
        raise Diverged(f"in {', '.join(wrong)}", trained.entries())
    kept = [] if attempt.keep is None else [keep_weights(attempt, attempt.keep, trained.network, test)]
    return Outcome(
        state=RunState.DONE,
        ledger=ledger,
        metrics=evaluation.ranking,
        evaluations=evaluation.others,
        subjects=list(evaluation.subjects),
        history=trained.entries(),
        reported_epoch=trained.reported_epoch,
        cost=_cost(work, context, trained, evaluate_seconds=evaluated, peak=peak),
        sharing=[_plain(reading) for reading in trained.network.sharing()],
        structure=trained.network.structure(),
        weights=kept,
        message=_left_out((*sorted(unreadable), *test.unreadable)),
    )


def _cost(work: Work, context: TrainingContext, trained: TrainingState, *, evaluate_seconds: float, peak: int) -> Cost:
    """The cost of a run that reached its end.

    Args:
        work: the cell and the engine's switches.
        context: what the training was given.
        trained: what the training has left.
        evaluate_seconds: seconds spent on the test split.
        peak: bytes at the peak of any process before the evaluation.
    """
    epochs = [report.seconds for report in trained.history]
    return Cost(
        train_seconds=context.search_seconds + sum(epochs),
        search_seconds=context.search_seconds,
        seconds_per_step=statistics.median_high(report.seconds_per_step for report in trained.history),
        seconds_per_epoch=statistics.median(epochs[1:] or epochs),
        evaluate_seconds=evaluate_seconds,
        peak_memory=max(peak, peak_memory(context.device)),
        forward_flops=count_forward_flops(trained.network, problem_of(work.cell, context.task), context.task),
        generation_flops=trained.network.generation_flops(),
        engine=work.engine.names(),
    )


def _plain(reading: Reading) -> list[Any]:
    """A reading as JSON, without coefficients if there are none."""
    *fields, coefficients = reading
    return fields if coefficients is None else [*fields, list(coefficients)]


def _left_out(unreadable: tuple[str, ...]) -> str | None:
    """A message about the examples that could not be read; None if there are none."""
    if not unreadable:
        return None
    names = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
    return f"{len(unreadable)} unreadable examples were left out: {names}"
