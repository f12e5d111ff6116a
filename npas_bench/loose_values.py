"""Numbers that a network holds outside of its parameters and buffers, where no ledger counts them.

They are looked for in the attributes of all modules, and in what these lead to: containers, objects, modules that are
not registered, closures of functions, hooks. Python's whole numbers count and index, so they are passed over.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Set
from functools import partial
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from npas_bench.errors import UncountedValues
from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Iterator

# How far containers, objects and closures are followed.
_DEEPEST = 20
_SHOWN = 3
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# What every module has and a plugin may put something of its own into.
_HOOKS = frozenset(name for name in _OF_EVERY_MODULE if name.endswith("_hooks"))
# Objects and functions of these packages are not looked into: their numbers are no method's.
_TRUSTED = frozenset({"npas_bench", "torch", "torchvision", "numpy", *sys.stdlib_module_names})


class LooseValue(NamedTuple):
    """Numbers in one place outside of parameters and buffers.

    Attributes:
        scalars: how many numbers there are; a complex number counts as two.
        digest: a digest of their values.
    """

    scalars: int
    digest: bytes


def loose_values(network: nn.Module) -> dict[str, LooseValue]:
    """All numbers that the modules of a network hold outside of parameters and buffers, by the names of their places.

    Views of parameters and buffers are left out, as are the results of operations that a gradient is taken through:
    both follow from what is counted.

    Args:
        network: the network, with all its modules.
    """
    return dict(_Finder(network).found())


def refuse_changed(before: Mapping[str, LooseValue], network: nn.Module, method: str) -> None:
    """Refuse a network of which training changed numbers that nothing counts.

    Args:
        before: what `loose_values` found before the training.
        network: the network after some of it.
        method: name of the method that made it.

    Raises:
        UncountedValues: if there are such numbers; the message names the method and the attributes.
    """
    changed = {name: value for name, value in loose_values(network).items() if before.get(name) != value}
    if changed:
        names = ", ".join(list(changed)[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
        count = sum(value.scalars for value in changed.values())
        scalars = "1 scalar" if count == 1 else f"{count:,} scalars"
        raise UncountedValues(
            f"method {method}: training changed {scalars} outside of all parameters and buffers ({names}), which no "
            "budget counts: make them parameters or registered buffers, or drop them at the end of each forward pass"
        )


class _Finder:
    """Looks for loose values; each object is looked at once, however many ways lead to it."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        held = (*network.parameters(), *network.buffers())
        self._registered = {storage_key(tensor) for tensor in held if tensor.layout is torch.strided}
        # The objects themselves are kept, so that no number of one stands for another one later.
        self._seen: dict[int, object] = {id(module): module for module in self._modules.values()}

    def found(self) -> Iterator[tuple[str, LooseValue]]:
        for prefix, module in self._modules.items():
            for name, value in (*vars(module).items(), *_of_class(type(module))):
                if name not in _OF_EVERY_MODULE or name in _HOOKS:
                    yield from self._values(f"{prefix}.{name}" if prefix else name, value, 0)
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                yield from self._values(f"{prefix}.{name}" if prefix else name, vars(tensor), 0)

    def _values(self, path: str, value: Any, depth: int) -> Iterator[tuple[str, LooseValue]]:
        if isinstance(value, Tensor):
            if not value.is_meta and value.grad_fn is None and not self._is_registered(value):
                yield path, _of_tensor(value)
        elif isinstance(value, (np.ndarray, np.generic, array)):
            yield from _of_array(path, np.asarray(value))
        elif isinstance(value, bytearray):
            yield from _of_array(path, np.frombuffer(bytes(value), np.uint8))
        elif isinstance(value, (float, complex)):
            yield path, LooseValue(2 if isinstance(value, complex) else 1, repr(value).encode())
        elif depth < _DEEPEST and id(value) not in self._seen:
            parts = _parts(value)
            if parts:
                self._seen[id(value)] = value
            for name, inner in parts:
                yield from self._values(f"{path}{name}", inner, depth + 1)

    def _is_registered(self, tensor: Tensor) -> bool:
        return tensor.layout is torch.strided and storage_key(tensor) in self._registered


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    """The attributes that a plugin's class itself holds; those of functions and of classes in it are none."""
    for base in cls.__mro__:
        if not _is_trusted(base.__module__):
            yield from (
                (name, value) for name, value in vars(base).items() if not isinstance(value, (type, FunctionType))
            )


def _of_tensor(tensor: Tensor) -> LooseValue:
    flat = tensor.detach().resolve_conj().resolve_neg().to_dense().cpu().contiguous().view(-1)
    count = flat.numel() * (2 if flat.is_complex() else 1)
    return LooseValue(count, _digest(flat.view(torch.uint8).numpy() if count else b""))


def _of_array(path: str, values: np.ndarray[Any, Any]) -> Iterator[tuple[str, LooseValue]]:
    if values.dtype.kind in "biufc":
        count = values.size * (2 if values.dtype.kind == "c" else 1)
        yield path, LooseValue(count, _digest(values.tobytes()))


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What a container, an object or a function leads to, with how each part is reached."""
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", inner) for key, inner in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [(f"[{index}]", inner) for index, inner in enumerate(value)]
    if isinstance(value, Set):
        return [(f"{{{inner!r}}}", inner) for inner in value]
    if isinstance(value, partial):
        return [(".func", value.func), (".args", value.args), (".keywords", value.keywords)]
    if isinstance(value, (FunctionType, MethodType)):
        return _parts_of_function(value)
    if isinstance(value, torch.optim.Optimizer):
        return [(".param_groups", [group["params"] for group in value.param_groups])]
    # A module that is looked at here is not registered: all that it holds is loose.
    looked_into = isinstance(value, (SimpleNamespace, nn.Module)) or not _is_trusted(type(value).__module__)
    if isinstance(value, type) or not looked_into:
        return []
    return [(f".{name}", inner) for name, inner in (*getattr(value, "__dict__", {}).items(), *_slots(value))]


def _parts_of_function(function: FunctionType | MethodType) -> list[tuple[str, Any]]:
    if isinstance(function, MethodType):
        return [(".__self__", function.__self__), ("", function.__func__)]
    if _is_trusted(function.__module__):
        return []
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    inner = [(f".{name}", _content(cell)) for name, cell in cells]
    return [*inner, (".__defaults__", function.__defaults__), (".__kwdefaults__", function.__kwdefaults__)]


def _content(cell: CellType) -> Any:
    """What a closure holds in one of its cells, which may be empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(value: object) -> list[tuple[str, Any]]:
    named = [name for cls in type(value).__mro__ for name in _listed(vars(cls).get("__slots__", ()))]
    return [(name, getattr(value, name)) for name in named if name != "__dict__" and hasattr(value, name)]


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _is_trusted(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in _TRUSTED
