"""The switches that any code of a process can turn, and that all other code of the process then computes with."""

from __future__ import annotations

import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from npas_bench import torch_internals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# scikit-learn and torch's compiler set these for themselves when they are first used, in whichever cell that is.
_LIBRARIES_SET = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_CACHE_DIR")
# The first letters of the environment variables that libraries for computing, or this package, look at.
_ON_CPUS = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH", "PYTORCH_")
_COMPUTING = (*_ON_CPUS, "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NPAS_BENCH_")


class Switch(NamedTuple):
    """A part of the global state.

    Attributes:
        name: the name that messages call it by.
        read: returns its value, which compares equal as long as nothing was changed.
        write: sets it to a value that `read` gave; None if nothing can.
        computing: whether results depend on it.
        importing: whether it is set back after the import of a plugin too. Libraries that a plugin imports may rely on
            what they change of the other switches.
        tell: says what of it differs between two values; None if its name says enough.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None
    computing: bool = True
    importing: bool = True
    tell: Callable[[Any, Any], str] | None = None


def all_switches() -> list[Switch]:
    """Every switch that is looked after, in the order in which they are to be set back."""
    return [*_torch_switches(), *_flags(), *_numpy_switches(), *_process_switches()]


def _torch_switches() -> Iterator[Switch]:
    yield Switch("torch's default device", torch_internals.chosen_default_device, torch.set_default_device)
    yield Switch(
        "torch's modes of functions, dispatch or autocast", torch_internals.modes_entered, torch_internals.leave_modes
    )
    yield Switch("torch's saved-tensor hooks", torch_internals.enclosing_hooks, torch_internals.leave_hooks)
    yield Switch("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Switch("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Switch("torch's inference mode", torch.is_inference_mode_enabled, None)
    yield Switch("torch's deterministic algorithms", _determinism, _set_determinism)
    yield Switch("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Switch("torch's flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal)
    yield Switch("torch's autocast", _autocast, _set_autocast)
    yield Switch("torch's precision of float32 arithmetic", _float32_precision, _set_float32_precision)
    yield Switch("torch's kernels of operators", torch_internals.replaced_kernels, None, tell=_added)
    yield Switch("torch's hooks on every module", _hooks, _set_hooks)
    yield Switch("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    yield Switch("torch's current GPU", _current_gpu, _set_current_gpu)


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _flushes_denormals() -> bool:
    # There is no function that tells.
    return (torch.tensor([1e-310], dtype=torch.float64) * torch.tensor([1.0], dtype=torch.float64)).item() == 0


_AUTOCAST_DEVICES = ("cpu", "cuda")


def _autocast() -> tuple[Any, ...]:
    each = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST_DEVICES]
    return (*each, torch.is_autocast_cache_enabled())


def _set_autocast(value: tuple[Any, ...]) -> None:
    for kind, (enabled, dtype) in zip(_AUTOCAST_DEVICES, value[:-1], strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.set_autocast_cache_enabled(value[-1])


def _hooks() -> dict[str, dict[Any, Any]]:
    return {name: dict(hooks) for name, hooks in torch_internals.hooks_on_everything().items()}


def _set_hooks(value: dict[str, dict[Any, Any]]) -> None:
    for name, hooks in torch_internals.hooks_on_everything().items():
        hooks.clear()
        hooks.update(value[name])


def _current_gpu() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]


def _set_current_gpu(value: int | None) -> None:
    # A process that had touched no GPU would have begun with the first one.
    torch.cuda.set_device(value or 0)


def _float32_precision() -> tuple[str | None, bool | None, tuple[str, ...]]:
    matmul, convolution = None, None
    # Torch refuses to tell by its older names what was set by its newer ones.
    with suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolution = torch.backends.cudnn.allow_tf32
    return matmul, convolution, torch_internals.float32_precisions()


def _set_float32_precision(value: tuple[str | None, bool | None, tuple[str, ...]]) -> None:
    matmul, convolution, precisions = value
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if convolution is not None:
        torch.backends.cudnn.allow_tf32 = convolution
    torch_internals.set_float32_precisions(precisions)


# Attributes of modules and objects that are switches by themselves.
_FLAGS = (
    *(("torch.backends.cudnn", name) for name in ("enabled", "benchmark", "benchmark_limit", "deterministic")),
    *(("torch.backends.mkldnn", name) for name in ("enabled", "deterministic")),
    *(("torch.backends.opt_einsum", name) for name in ("enabled", "strategy")),
    ("torch.backends.quantized", "engine"),
    ("torch.utils.deterministic", "fill_uninitialized_memory"),
    ("torch.backends.cuda.matmul", "allow_fp16_reduced_precision_reduction"),
    ("torch.backends.cuda.matmul", "allow_bf16_reduced_precision_reduction"),
    ("torch.backends.cuda.matmul", "allow_fp16_accumulation"),
)
# Switches of torch with a function that tells and one that sets.
_PAIRS = (
    ("torch.backends.cuda", "flash_sdp_enabled", "enable_flash_sdp"),
    ("torch.backends.cuda", "mem_efficient_sdp_enabled", "enable_mem_efficient_sdp"),
    ("torch.backends.cuda", "math_sdp_enabled", "enable_math_sdp"),
    ("torch.backends.cuda", "cudnn_sdp_enabled", "enable_cudnn_sdp"),
    ("torch.backends.cuda", "preferred_linalg_library", "preferred_linalg_library"),
    ("torch.backends.cuda", "preferred_blas_library", "preferred_blas_library"),
    ("torch.backends.mha", "get_fastpath_enabled", "set_fastpath_enabled"),
    (
        "torch.__future__",
        "get_overwrite_module_params_on_conversion",
        "set_overwrite_module_params_on_conversion",
    ),
    ("torch.__future__", "get_swap_module_params_on_conversion", "set_swap_module_params_on_conversion"),
)


def _flags() -> Iterator[Switch]:
    for place, name in _FLAGS:
        home = _found(place)
        yield Switch(f"{place}.{name}", partial(getattr, home, name), partial(_set_flag, home, name))
    yield Switch("torch.backends.nnpack", _nnpack, torch.backends.nnpack.set_flags)
    for place, reader, writer in _PAIRS:
        home = _found(place)
        yield Switch(f"{place}.{reader}", getattr(home, reader), getattr(home, writer))


def _nnpack() -> bool:
    # Its only function sets it, and returns what it was.
    (enabled,) = torch.backends.nnpack.set_flags(True)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(enabled)  # type: ignore[no-untyped-call]
    return bool(enabled)


def _found(place: str) -> Any:
    """The module or the object of a module that has a dotted name."""
    module, _, name = place.rpartition(".")
    try:
        return import_module(place)
    except ModuleNotFoundError:
        return getattr(import_module(module), name)


def _set_flag(home: Any, name: str, value: Any) -> None:
    # A backend that is missing tells None, and takes nothing.
    if value is not None:
        setattr(home, name, value)


def _numpy_switches() -> Iterator[Switch]:
    yield Switch("numpy's handling of floating-point errors", np.geterr, lambda value: np.seterr(**value))


def _process_switches() -> Iterator[Switch]:
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
    for name, read, write in (
        ("Python's warning filters", lambda: list(warnings.filters), _set_filters),
        ("Python's path of modules", lambda: list(sys.path), _set_path),
        ("Python's garbage collection", gc.isenabled, _set_collection),
        ("Python's logging", lambda: logging.root.manager.disable, logging.disable),
    ):
        yield Switch(name, read, write, computing=False, importing=False)


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


def _set_filters(value: list[Any]) -> None:
    # It also makes Python forget which warnings it has shown under the other filters.
    warnings.resetwarnings()
    warnings.filters[:] = value  # type: ignore[index]


def _set_path(value: list[str]) -> None:
    sys.path[:] = value


def _set_collection(value: bool) -> None:
    (gc.enable if value else gc.disable)()


def _added(before: frozenset[str], after: frozenset[str]) -> str:
    return ", ".join(sorted(after ^ before))


def _differing(before: dict[str, Any], after: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


class Generators:
    """The states of the generators of random numbers that any code can draw from."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def put_back(self) -> None:
        """Set all generators to the states that they had."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._gpus:
            torch.cuda.set_rng_state_all(self._gpus)
