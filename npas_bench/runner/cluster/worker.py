"""What runs in Ray's worker processes: one cell after the other."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from npas_bench.runner.work import Attempt

_LOOK_SECONDS = 1.0


class Facts(NamedTuple):
    """What a worker says of itself before it gets any work.

    Attributes:
        version: of its package.
        code: digest of its package's sources.
        sees: whether it sees the folder that checkpoints go to.
        gpu_memory: bytes of its GPU; None if it has none.
        pid: number of its process.
        device: name of its GPU or processor.
    """

    version: str
    code: str
    sees: bool
    gpu_memory: int | None
    pid: int
    device: str


class Answer(NamedTuple):
    """What a worker answers when a cell ended.

    Attributes:
        outcome: as JSON.
        resident: bytes that its process holds now; 0 where the system does not say.
    """

    outcome: str
    resident: int


class Worker:
    """An actor of Ray's.

    Args:
        environment: variables that a worker on another machine lacks.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        # Ray's own process on this machine is this one's parent. A worker that outlived it would go on computing for
        # nobody.
        threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()

    def facts(self, marker: str, tasks: list[str], methods: list[str]) -> Facts:
        """What this worker is.

        Args:
            marker: a file that the driver made beside the checkpoints.
            tasks: that cells will name; imports are paid for once, before there is work.
            methods: likewise.
        """
        import torch

        from npas_bench import __version__, plugins
        from npas_bench.errors import NpasBenchError
        from npas_bench.runner.device import describe_device
        from npas_bench.runner.execution import execute  # noqa: F401
        from npas_bench.runner.provenance import source_digest

        # What is wrong with one of them is the cell's to say.
        with suppress(NpasBenchError):
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

        from npas_bench.runner.execution import execute
        from npas_bench.runner.machine import peak_memory
        from npas_bench.runner.work import Progress, write_progress

        device = torch.device(attempt.work.device)

        def tell(report: Any) -> None:
            write_progress(attempt, Progress(report, peak_memory(device)))

        outcome = execute(attempt, tell)
        if device.type == "cuda":
            # What is cached for the next cell is nobody else's: others share this GPU.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
        return Answer(outcome.model_dump_json(), _resident())


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
