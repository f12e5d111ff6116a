"""Facts about this machine and this process: memory at the peak, versions, and the class of the host."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import torch


def begin_peak_memory() -> None:
    """Reset the mark of the largest resident set, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Bytes at this process's peak while it ran its cell: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that compute its results."""
    import platform
    from importlib.metadata import version

    packages = ("npas-bench", "numpy", "scikit-learn")
    # torch's own attribute names the build too, as in 2.12.1+cu130.
    computing = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return computing | {name: version(name) for name in packages}


def host_class() -> str:
    """The facts of a host that results may depend on: system, machine, instruction set and number of cores."""
    import platform

    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} {instructions} {os.cpu_count()} cores"
