"""Numbers that a network holds outside of its parameters and buffers, where no ledger counts them."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from npas_bench.errors import UncountedValues

if TYPE_CHECKING:
    from collections.abc import Iterator

# How far lists, dictionaries and objects in attributes are followed.
_DEEPEST = 4
_SHOWN = 3
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType)
_NO_VALUES = (type, ModuleType, torch.dtype, torch.device, torch.Generator, *_FUNCTIONS)


def loose_values(network: nn.Module) -> dict[str, Tensor]:
    """Copies of all real and complex numbers that the modules of a network hold as plain attributes, by their names.

    Tensors that are parameters or buffers, or views of them, are left out; so are whole numbers, which count and index.

    Args:
        network: the network, with all its modules.
    """
    registered = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for prefix, module in network.named_modules():
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE:
                path = f"{prefix}.{name}" if prefix else name
                found |= dict(_numbers(path, value, 0, registered, seen))
    return found


def refuse_changed(before: dict[str, Tensor], network: nn.Module, method: str) -> None:
    """Refuse a network of which training changed numbers that nothing counts.

    Args:
        before: what `loose_values` found before the training.
        network: the network after it.
        method: name of the method that made it.

    Raises:
        UncountedValues: if there are such numbers; the message names the method and the attributes.
    """
    changed = {
        name: value
        for name, value in loose_values(network).items()
        if name not in before or not torch.equal(before[name], value)
    }
    if changed:
        names = ", ".join(list(changed)[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
        count = sum(value.numel() for value in changed.values())
        scalars = "1 scalar" if count == 1 else f"{count:,} scalars"
        raise UncountedValues(
            f"method {method}: training changed {scalars} outside of all parameters and buffers ({names}), which no "
            "budget counts: make them parameters or registered buffers"
        )


def _numbers(path: str, value: Any, depth: int, registered: set[int], seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        real = value.is_floating_point() or value.is_complex()
        if real and not value.is_meta and _storage(value) not in registered:
            yield path, value.detach().cpu().clone()
    elif isinstance(value, (float, complex, np.floating, np.complexfloating)):
        yield path, torch.tensor(complex(value), dtype=torch.complex128)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fc":
            yield path, torch.tensor(value)
    elif depth < _DEEPEST and id(value) not in seen:
        seen.add(id(value))
        for name, inner in _parts(value):
            yield from _numbers(f"{path}{name}", inner, depth + 1, registered, seen)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What a container or an object holds, with how each part is reached; modules are looked at on their own."""
    if isinstance(value, dict):
        return [(f"[{key!r}]", inner) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", inner) for index, inner in enumerate(value)]
    if isinstance(value, (nn.Module, str, bytes, int, *_NO_VALUES)) or value is None:
        return []
    return [(f".{name}", inner) for name, inner in getattr(value, "__dict__", {}).items()]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if not tensor.is_meta else 0
