"""The program of Ray's worker processes, which run one cell after the other."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from npas_bench.runner.containment import Traces
    from npas_bench.runner.work import Attempt

_LOOK_SECONDS = 1.0


class Facts(NamedTuple):
    """What a worker tells about itself before it gets any work.

    Attributes:
        version: version of its package.
        code: digest of its package's sources.
        sees: whether it sees the folder that checkpoints go to.
        gpu_memory: bytes of its GPU; None if it has none.
        pid: id of its process.
        device: name of its GPU or processor.
    """

    version: str
    code: str
    sees: bool
    gpu_memory: int | None
    pid: int
    device: str


class Answer(NamedTuple):
    """A worker's answer when a cell has ended.

    Attributes:
        outcome: the outcome as JSON.
        resident: bytes that its process holds now; 0 if the system does not tell.
        traces: what the cell's plugins changed of the global state; None if that was not looked at.
    """

    outcome: str
    resident: int
    traces: Traces | None = None


class Worker:
    """An actor of Ray that runs cells.

    Args:
        environment: environment variables that a worker on another machine lacks.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        # The parent is Ray's own process on this machine. A worker that outlived it would compute for nobody.
        threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()

    def facts(self, marker: str, tasks: list[str], methods: list[str]) -> Facts:
        """Describe this worker.

        Args:
            marker: a file that the driver made beside the checkpoints.
            tasks: names of tasks that cells will use, which are imported before there is work.
            methods: names of methods that cells will use, likewise.
        """
        import torch

        from npas_bench import __version__, plugins
        from npas_bench.errors import NpasBenchError
        from npas_bench.runner.containment import contained_planning
        from npas_bench.runner.device import describe_device
        from npas_bench.runner.execution import execute  # noqa: F401
        from npas_bench.runner.provenance import source_digest

        # If something is wrong with one of them, the outcome of its cell will tell.
        with suppress(NpasBenchError), contained_planning():
            for method in methods:
                plugins.methods.load(method)
            for task in tasks:
                plugins.task(task).source()
        gpu = torch.cuda.is_available()
        return Facts(
            version=__version__,
            code=source_digest(),
            sees=Path(marker).exists(),
            gpu_memory=int(torch.cuda.mem_get_info()[1]) if gpu else None,
            pid=os.getpid(),
            device=describe_device("cuda" if gpu else "cpu"),
        )

    def run(self, attempt: Attempt) -> Answer:
        """Run a cell to its end."""
        import torch

        from npas_bench.runner.containment import contained_cell
        from npas_bench.runner.execution import execute
        from npas_bench.runner.machine import peak_memory
        from npas_bench.runner.work import Progress, write_progress

        device = torch.device(attempt.work.device)

        def tell(report: Any) -> None:
            write_progress(attempt, Progress(report, peak_memory(device)))

        with contained_cell(attempt.cell) as traces:
            outcome = execute(attempt, tell)
        if device.type == "cuda":
            # Memory that stays cached for the next cell is lost to the others that share this GPU.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
        return Answer(outcome.model_dump_json(), _resident(), traces)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
