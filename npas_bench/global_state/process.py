"""The switches of the process itself: its environment, folder, signals, streams and limits, and those of Python."""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npas_bench.global_state.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

try:
    import resource
except ImportError:  # Not every system has it.
    resource = None  # type: ignore[assignment]

# scikit-learn and torch's compiler set these for themselves when they are first used, in whichever cell that is.
_LIBRARIES_SET = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_CACHE_DIR")
# The first letters of the environment variables that libraries for computing, or this package, look at.
_ON_CPUS = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH", "PYTORCH_")
_COMPUTING = (*_ON_CPUS, "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NPAS_BENCH_")


def process_switches() -> Iterator[Switch]:
    """The switches of the process and of Python."""
    yield from _limits()
    yield Switch("the environment", partial(_environment, True), partial(_set_environment, True), tell=_differing)
    yield Switch(
        "the environment",
        partial(_environment, False),
        partial(_set_environment, False),
        computing=False,
        importing=False,
        tell=_differing,
    )
    yield Switch("the working directory", _working_directory, _set_working_directory, computing=False)
    yield Switch("the locale", partial(locale.setlocale, locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL))
    yield Switch("Python's handling of signals", _handlers, _set_handlers, computing=False, tell=_differing)
    yield Switch("the signals that are held back", _held_back, _set_held_back, computing=False)
    yield Switch("the timers of the process", _timers, _set_timers, computing=False, tell=_differing)
    yield Switch("the standard streams", _streams, _set_streams, computing=False, tell=_differing)
    for name, read, write in (
        ("Python's warning filters", lambda: list(warnings.filters), _set_filters),
        ("Python's path of modules", lambda: list(sys.path), _set_path),
        ("Python's garbage collection", gc.isenabled, _set_collection),
        ("Python's logging", _logging, _set_logging),
        ("Python's limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit),
    ):
        yield Switch(name, read, write, computing=False, importing=False)


def _limits() -> Iterator[Switch]:
    # Code that is to open many files raises their limit when it is imported, and relies on it.
    files = ("RLIMIT_NOFILE", "RLIMIT_OFILE")
    every = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    for names, importing in (([name for name in every if name not in files], True), (files[:1], False)):
        yield Switch(
            "the limits of the process",
            partial(_read_limits, names),
            _set_limits,
            computing=False,
            importing=importing,
            tell=_differing,
        )
    yield Switch("the permissions of new files", _permissions, os.umask, computing=False)


def _read_limits(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The soft and the hard limit of each resource."""
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _set_limits(value: dict[str, tuple[int, int]]) -> None:
    now = _read_limits(value)
    for name, (soft, hard) in value.items():
        if now[name] == (soft, hard):
            continue
        number = getattr(resource, name)
        try:
            resource.setrlimit(number, (soft, hard))
        except ValueError:
            # Only the superuser may raise a hard limit again.
            left = now[name][1]
            resource.setrlimit(number, (left if soft == resource.RLIM_INFINITY else min(soft, left), left))


def _permissions() -> int:
    """The mask that takes permissions from new files; to ask the system for it would mean to change it meanwhile."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("Umask:"))


def _environment(computing: bool) -> dict[str, str]:
    """The variables that libraries for computing look at, or all others."""
    return {
        name: text
        for name, text in os.environ.items()
        if name.startswith(_COMPUTING) == computing and not name.startswith(_LIBRARIES_SET)
    }


def _set_environment(computing: bool, value: dict[str, str]) -> None:
    now = _environment(computing)
    for name in now.keys() - value.keys():
        del os.environ[name]
    # What did not change is left alone, since other threads may read it at this moment.
    os.environ.update({name: text for name, text in value.items() if now.get(name) != text})


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        # It was removed, and cannot be gone back to.
        return None


def _set_working_directory(value: str | None) -> None:
    if value is not None:
        os.chdir(value)


def _handlers() -> dict[str, Any]:
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {signal.Signals(number).name: handler for number, handler in found.items() if number in set(signal.Signals)}


def _set_handlers(value: dict[str, Any]) -> None:
    # Only the main thread may set them, so that in any other thread none can have been set.
    if threading.current_thread() is not threading.main_thread():
        return
    for name, handler in value.items():
        # None stands for a handler that Python did not set and cannot set.
        if handler is not None and signal.getsignal(signal.Signals[name]) != handler:
            signal.signal(signal.Signals[name], handler)


def _held_back() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _set_held_back(value: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, value)


@dataclass(frozen=True)
class _Timer:
    """A timer of the process, which sends a signal when it is over.

    Attributes:
        running: whether it is.
        interval: seconds after which it begins anew; 0 if it does not.
        over: when it is over, by a clock that never jumps.
    """

    running: bool
    interval: float
    over: float = field(compare=False)


_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")


def _timers() -> dict[str, _Timer]:
    found = {}
    for name in _TIMERS:
        left, interval = signal.getitimer(getattr(signal, name))
        found[name] = _Timer(left > 0, interval, time.monotonic() + left)
    return found


def _set_timers(value: dict[str, _Timer]) -> None:
    now = _timers()
    for name, timer in value.items():
        if timer != now[name]:
            # One that would be over by now ends at once.
            left = max(timer.over - time.monotonic(), 1e-3) if timer.running else 0.0
            signal.setitimer(getattr(signal, name), left, timer.interval)


_STREAMS = ("stdin", "stdout", "stderr")


def _streams() -> dict[str, Any]:
    return {name: getattr(sys, name) for name in _STREAMS}


def _set_streams(value: dict[str, Any]) -> None:
    for name, stream in value.items():
        setattr(sys, name, stream)


def _logging() -> tuple[int, int]:
    return logging.root.manager.disable, logging.root.level


def _set_logging(value: tuple[int, int]) -> None:
    disabled, level = value
    logging.disable(disabled)
    logging.root.setLevel(level)


def _set_filters(value: list[Any]) -> None:
    # It also makes Python forget which warnings it has shown under the other filters.
    warnings.resetwarnings()
    warnings.filters[:] = value  # type: ignore[index]


def _set_path(value: list[str]) -> None:
    sys.path[:] = value


def _set_collection(value: bool) -> None:
    (gc.enable if value else gc.disable)()


def _differing(before: dict[str, Any], after: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
