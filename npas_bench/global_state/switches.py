"""The switches that any code of a process can turn, and that all other code of the process then computes with."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from npas_bench import torch_internals
from npas_bench.global_state.process import process_switches
from npas_bench.global_state.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Iterator


def all_switches() -> list[Switch]:
    """Every switch that is looked after, in the order in which they are to be set back."""
    return [*_torch_switches(), *_flags(), *_other_libraries(), *process_switches()]


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


def _other_libraries() -> Iterator[Switch]:
    yield Switch("numpy's handling of floating-point errors", np.geterr, lambda value: np.seterr(**value))
    for place, name, default in _PICTURES:
        yield Switch(f"{place}.{name}", partial(_of_pictures, place, name, default), partial(_set_picture, place, name))


# Whether Pillow decodes pictures that are cut off, and how many pixels a picture may have, with Pillow's own values.
_PICTURES = (
    ("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", False),
    ("PIL.Image", "MAX_IMAGE_PIXELS", 1024 * 1024 * 1024 // 4 // 3),
)


def _of_pictures(place: str, name: str, default: Any) -> Any:
    # Pillow is not imported for this: what imports it later finds its own values.
    return getattr(sys.modules[place], name) if place in sys.modules else default


def _set_picture(place: str, name: str, value: Any) -> None:
    if place in sys.modules:
        setattr(sys.modules[place], name, value)


def _added(before: frozenset[str], after: frozenset[str]) -> str:
    return ", ".join(sorted(after ^ before))


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
