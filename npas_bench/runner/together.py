"""Running one cell in several processes of this machine, each with a share of every batch."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, multiprocessing

from npas_bench.errors import NpasBenchError, StorageError
from npas_bench.runner.containment import contained_cell
from npas_bench.runner.work import Outcome
from npas_bench.training.parallel import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npas_bench.runner.work import Attempt
    from npas_bench.training.loop import EpochReport

    # A function that takes part in the training of a cell.
    Share = Callable[[Attempt, Callable[[EpochReport], None], Processes], Outcome | None]

# The other processes wait while the first one searches.
_PATIENCE = timedelta(days=7)


def run_together(attempt: Attempt, share: Share, on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """Run a cell in as many processes as its engine says.

    Args:
        attempt: the attempt to carry out.
        share: the function that runs in every process.
        on_epoch: is called with every epoch's report, in this process.

    Returns:
        The outcome of the first process, or of the process that failed.

    Raises:
        StorageError: if checkpoints cannot be written.
        NpasBenchError: if there are too few devices or parts, or a process died.
    """
    work = attempt.work
    count = work.engine.processes
    if work.cell.recipe.parts % count:
        raise NpasBenchError(
            f"{count} processes cannot share the {work.cell.recipe.parts} parts of a batch: use --parts {count}"
        )
    if work.device.startswith("cuda") and torch.cuda.device_count() < count:
        raise NpasBenchError(f"{count} processes need as many GPUs, and there are {torch.cuda.device_count()}")
    context = multiprocessing.get_context("spawn")
    readers: dict[Connection, Any] = {}
    with tempfile.TemporaryDirectory() as meeting:
        try:
            for rank in range(count):
                reader, writer = context.Pipe(duplex=False)
                arguments = (Path(meeting) / "meet", rank, attempt, share, writer)
                # Daemons may not have children, and the processes that read images ahead are children.
                process = context.Process(target=_take_part, args=arguments)
                with importing_alike():
                    process.start()
                writer.close()
                readers[reader] = process
            return _listen(dict(readers), on_epoch)
        finally:
            for process in readers.values():
                process.kill()
                process.join()


@contextmanager
def importing_alike() -> Iterator[None]:
    """A block that starts processes which import what this one imports.

    Python would put the working directory before everything else that they import, until they are told this process's
    folders: a `types.py` there would keep them from starting.
    """
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _listen(readers: dict[Connection, Any], on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """Listen to the processes until one of them has the outcome."""
    count = len(readers)
    while readers:
        for ready in wait(list(readers)):
            reader: Any = ready
            try:
                kind, content = reader.recv()
            except (EOFError, OSError):
                process = readers.pop(reader)
                process.join()
                raise NpasBenchError(
                    f"one of {count} processes that train together died (exit code {process.exitcode})"
                ) from None
            if kind == "epoch":
                on_epoch(content)
            elif kind == "done":
                # This process has done its part, and it does not matter how it ends.
                del readers[reader]
            elif kind == "error":
                raise StorageError(content)
            else:
                return Outcome.model_validate_json(content)
    raise NpasBenchError(f"{count} processes trained together, and none has the outcome")


def _take_part(meeting: Path, rank: int, attempt: Attempt, share: Share, writer: Connection) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    work = attempt.work
    on_gpu = work.device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=work.engine.processes,
        timeout=_PATIENCE,
    )

    def tell(report: EpochReport) -> None:
        if rank == 0:
            writer.send(("epoch", report))

    try:
        with contained_cell(attempt.cell):
            outcome = share(attempt, tell, Processes(rank, work.engine.processes))
    except StorageError as error:
        writer.send(("error", str(error)))
    else:
        writer.send(("done", None) if outcome is None else ("outcome", outcome.model_dump_json()))
    writer.close()
    # The interpreter's ordinary exit may abort when some processes of the group are gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leave_with_parent() -> None:
    """End this process when its parent is gone, since nobody would use what it computes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
