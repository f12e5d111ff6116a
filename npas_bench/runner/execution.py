"""Running one cell, in whichever process: build, refuse, train, evaluate, count again."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import resource
import statistics
import sys
import time
import traceback
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from npas_bench import plugins
from npas_bench.budget import Ledger, count_scalars
from npas_bench.errors import (
    CheckpointError,
    DeadParameters,
    Diverged,
    NpasBenchError,
    OverBudget,
    StorageError,
    UnsupportedBudget,
)
from npas_bench.methods import Problem
from npas_bench.network import GeneratedNetwork, changed_state
from npas_bench.runner.device import describe_device
from npas_bench.runner.together import run_together
from npas_bench.runner.work import Cost, Measured, Outcome, Work
from npas_bench.seeding import derive_seed, seeded
from npas_bench.training.checkpoint import CheckpointFolder
from npas_bench.training.flops import count_forward_flops
from npas_bench.training.loop import EpochReport, Training, cpu_threads, train
from npas_bench.training.parallel import ALONE, Processes
from npas_bench.training.search import Search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from npas_bench.allocation import Reading
    from npas_bench.methods.base import Trial
    from npas_bench.network import Network
    from npas_bench.runner.cell import Cell
    from npas_bench.tasks import Task

log = logging.getLogger(__name__)


def execute(work: Work, on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """Run a cell to its end; whatever goes wrong is an outcome, not an exception."""
    _begin_peak_memory()
    if work.engine.processes == 1:
        outcome = _attempt(work, on_epoch, ALONE)
        assert outcome is not None  # noqa: S101 (only of several processes all but the first have none)
        return outcome
    try:
        return run_together(work, _attempt, on_epoch)
    except StorageError as error:
        return _unstorable(error, versions=versions(), host=host_class())
    except NpasBenchError as error:
        return Outcome(state="failed", message=str(error), versions=versions(), host=host_class())


def _unstorable(error: StorageError, **facts: Any) -> Outcome:
    """Of a cell whose checkpoints could not be written: those that were are kept, and a later run goes on from them."""
    return Outcome(state="failed", message=str(error), resumable=True, cause="storage", **facts)


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
            state="unsupported",
            message=str(unsupported),
            smallest=unsupported.smallest,
            largest=unsupported.largest,
            **facts,
        )
    except Diverged as diverged:
        return Outcome(state="failed", message=str(diverged), history=diverged.history, **facts)
    except StorageError as error:
        if processes.count > 1:
            raise
        return _unstorable(error, **facts)
    except Overdue as overdue:
        return overdue_outcome(work, overdue.epoch, history=[report.entry() for report in reports], **facts)
    # The grid's other cells go on whatever is wrong with this one.
    except Exception as error:
        log.debug("%s failed", work.cell, exc_info=True)
        short = _out_of_memory(work, error)
        return Outcome(
            state="failed",
            message=short or f"{type(error).__name__}: {error}",
            cause="memory" if short else None,
            detail=traceback.format_exc(),
            history=[report.entry() for report in reports],
            **facts,
        )


class Overdue(Exception):
    """An attempt took longer than it may; known when an epoch ends."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(epoch)


def overdue_outcome(work: Work, epoch: int, **fields: Any) -> Outcome:
    """Of a cell that took longer than it may; it goes on when it is run again."""
    return Outcome(
        state="failed",
        message=f"its deadline of {work.deadline:,.4g} s passed after epoch {epoch} of {work.cell.recipe.epochs}",
        resumable=True,
        cause="time",
        **fields,
    )


def _out_of_memory(work: Work, error: Exception) -> str | None:
    """What to say of an error that means that memory was not enough; None of others."""
    # A CPU's allocator has no error of its own.
    named = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if not named:
        return None
    peak = peak_memory(torch.device(work.device)) / 2**30
    return (
        f"out of memory: a batch of {work.cell.recipe.batch_size} does not fit (peak {peak:.2f} GiB on {work.device}); "
        "a recipe of more parts, or --regenerate, needs less"
    )


def problem_of(
    cell: Cell, task: Task, trial: Trial | None = None, structure: Mapping[str, Any] | None = None
) -> Problem:
    """The problem that a cell sets its method.

    Args:
        cell: gives architecture, budget and seed.
        task: gives the signature.
        trial: trains for a search.
        structure: what an earlier search for this cell decided.
    """
    return Problem(
        architecture=plugins.architecture(cell.architecture),
        signature=task.signature,
        budget=cell.budget,
        seed=derive_seed("cell", cell.identity),
        trial=trial,
        structure=structure or {},
    )


class Built(NamedTuple):
    """A network with its initial values, and what the ledger says of it."""

    network: Network
    ledger: Ledger


def build_network(cell: Cell, problem: Problem) -> Built:
    """A cell's network, counted; its initial values are the same wherever and after whatever it is built.

    Raises:
        UnsupportedBudget: if the method cannot meet the budget.
        OverBudget: if the method made a network that is over it.
        DeadParameters: if parts of its store reach no layer and it does not say why.
    """
    method = plugins.methods.load(cell.method)(cell.options)
    with cpu_threads(cell.recipe.threads), seeded("initial values", cell.identity):
        network = method.build(problem)
    ledger = network.ledger(cell.budget).check(str(cell))
    if ledger.reach is not None and ledger.reach < 1 and ledger.remark is None:
        raise DeadParameters(
            f"{cell}: only {100 * ledger.reach:.4g} % of the store reach a layer, and the method does not say why"
        )
    return Built(network, ledger)


def _run(work: Work, on_epoch: Callable[[EpochReport], None], processes: Processes) -> Outcome | None:
    cell, device = work.cell, _device(work, processes)
    task = plugins.task(cell.task)
    if task.source().digest != work.source.digest:
        raise CheckpointError(f"the data of task {cell.task} differs here from the driver's: {task.source().label}")
    examples = task.data("train").to(device)
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
    if isinstance(network, GeneratedNetwork):
        network.regenerate_in_backward = work.engine.regenerate
    network.to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training = Training(
        network=network,
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
    )
    trained = train(training, checkpoints, on_epoch)
    peak = processes.largest(peak_memory(device))
    unreadable = {*chain(*processes.gather(examples.unreadable))}
    if processes.rank:
        return None
    ledger = _count_again(network, ledger, trained.before, checkpoints, cell)
    begun = time.perf_counter()
    network.eval()
    test = task.data("test").to(device)
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=cell.recipe.precision == "bf16")
    with cpu_threads(cell.recipe.threads), torch.no_grad(), bf16:
        values = task.evaluate(network, test)
    evaluated = time.perf_counter() - begun
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise Diverged(f"in {', '.join(wrong)}", [report.entry() for report in trained.history])
    epochs = [report.seconds for report in trained.history]
    return Outcome(
        state="done",
        ledger=ledger,
        metrics=[Measured(value=values[metric.name], **metric._asdict()) for metric in task.metrics],
        history=[report.entry() for report in trained.history],
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
        message=_left_out((*sorted(unreadable), *test.unreadable)),
    )


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


def _count_again(
    network: Network, ledger: Ledger, before: dict[str, torch.Tensor], checkpoints: CheckpointFolder, cell: Cell
) -> Ledger:
    """The ledger after training, from the network and again from the file, which must agree."""
    changed = changed_state(before, network)
    counts = {role.value: count for role, count in network.count().items()}
    counts["reserved"] = network.reserved()
    counts["state"] = sum(count_scalars(changed.items(), {}).values())
    ledger = ledger.model_copy(update=counts).check(f"{cell}, after training,")
    names = set(network.state_names())
    statistics = {name for name, _ in network.named_buffers()} - names
    counted = checkpoints.recount(statistics, names - changed.keys())
    if counted > cell.budget:
        raise OverBudget(
            f"{cell}: its checkpoint holds {counted:,} trained scalars, over the budget of {cell.budget:,}"
        )
    if counted != ledger.total:
        raise CheckpointError(f"{cell}: its checkpoint holds {counted:,} trained scalars, the ledger {ledger.total:,}")
    return ledger


def _begin_peak_memory() -> None:
    """Start the mark of the largest resident set anew, where the system lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes at this process' peak while it ran its cell: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def versions() -> dict[str, str]:
    """Versions of Python, the package and what computes its results."""
    import platform
    from importlib.metadata import version

    packages = ("npas-bench", "numpy", "scikit-learn", "torchmetrics")
    # torch's own word names the build too, as 2.12.1+cu130 does.
    computing = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return computing | {name: version(name) for name in packages}


def host_class() -> str:
    """What of a host results may depend on: system, machine, instruction set, number of cores; never its name."""
    import platform

    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} {instructions} {os.cpu_count()} cores"
