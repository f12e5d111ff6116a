"""Where a network may hold numbers outside of its parameters and buffers, and how they are found there.

They are looked for in the attributes of all modules, and in what these lead to: containers, objects, modules that are
not registered, closures of functions, hooks. Beyond the network, they are looked for in what all code of a plugin
shares: the globals of its modules, attributes and defaults of its functions, and its classes. Python's whole numbers
count and index, so they are passed over.
"""

from __future__ import annotations

import gc
import queue
import sys
from array import array
from collections import UserList, deque
from collections.abc import Mapping, Set
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from functools import lru_cache, partial
from types import CellType, FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from npas_bench.loose_content import LooseValue, bytes_beside, content_of, digest_of, registered_bytes, value_of
from npas_bench.torch_internals import storage_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# How far containers, objects and closures are followed; below the first depth, what is new there may be a constant.
_DEEP = 20
_DEEPEST = 200
# The most places beyond a network's own attributes that are looked at.
_MOST_PLACES = 100_000
# Shorter bytes are digests and names.
_SHORT_BYTES = 64
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# What every module has and a plugin may put something of its own into.
_HOOKS = frozenset(name for name in _OF_EVERY_MODULE if name.endswith("_hooks"))
# Objects and functions of these packages are not looked into: their numbers are no method's.
_TRUSTED = frozenset({"npas_bench", "torch", "torchvision", "numpy", *sys.stdlib_module_names})
_CACHED = type(lru_cache(len))


class Area(IntEnum):
    """Where a value is found, which decides what is made of it.

    Attributes:
        own: an attribute of the network, or what one leads to: what is new there counts, and what changes.
        held: other things that the network leads to, where what is new may be a constant that was just made.
        around: what all code of a plugin shares, where single numbers are counters and measurements of time.
    """

    own = 0
    held = 1
    around = 2


class Found(NamedTuple):
    """A loose value where it was found.

    Attributes:
        path: the name of the place.
        value: the value.
        area: where the place is.
        tensor: the tensor, if it is the result of an operation that a gradient can be taken through.
    """

    path: str
    value: LooseValue
    area: Area
    tensor: Tensor | None = None


def loose_places(network: nn.Module, packages: Iterable[str] = ()) -> Iterator[Found]:
    """All numbers that a network, or the code of its plugins, holds outside of parameters and buffers.

    Views of parameters and buffers are left out, and so is what cannot be read.

    Args:
        network: the network, with all its modules.
        packages: names of modules and packages whose globals are looked at, with all that lies in them.
    """
    return _Finder(network).found(packages)


class _Open(NamedTuple):
    """A place that is to be looked at."""

    path: str
    value: Any
    area: Area
    depth: int = 0


class _Part(NamedTuple):
    """What a value leads to, with how it is reached, and the area that it lies in at least."""

    name: str
    value: Any
    area: Area = Area.own


class _Finder:
    """Looks for loose values; each object is looked at once, however many ways lead to it."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._registered = registered_bytes((*network.parameters(), *network.buffers()))
        # The objects themselves are kept, so that no number of one stands for another one later.
        self._seen: dict[int, object] = {id(module): module for module in self._modules.values()}
        self._open: dict[Area, list[_Open]] = {area: [] for area in Area}

    def found(self, packages: Iterable[str]) -> Iterator[Found]:
        """Everything that is found, what the network itself holds first."""
        for prefix, module in self._modules.items():
            self._add(self._roots(f"{prefix}." if prefix else "", module))
        self._add(_globals(packages))
        looked_at = 0
        for area in Area:
            waiting = self._open[area]
            waiting.reverse()
            while waiting and looked_at < _MOST_PLACES:
                one = waiting.pop()
                looked_at += area is not Area.own
                # Objects of plugins may fail in any way when they are looked at, and so may unusual tensors.
                try:
                    found = self._value(one)
                    parts = [] if found is not None else self._inside(one)
                except Exception:  # noqa: S112 (what cannot be read is no number that anything could go on from)
                    continue
                if found is not None and found.value.scalars >= _fewest(found.area):
                    yield found
                inner = [
                    _Open(one.path + part.name, part.value, max(area, part.area, _area_at(one.depth)), one.depth + 1)
                    for part in parts
                ]
                waiting.extend(place for place in reversed(inner) if place.area is area)
                self._add(place for place in inner if place.area is not area)

    def _add(self, places: Iterable[_Open]) -> None:
        for place in places:
            self._open[place.area].append(place)

    def _roots(self, prefix: str, module: nn.Module) -> Iterator[_Open]:
        for name, value in vars(module).items():
            if name not in _OF_EVERY_MODULE or name in _HOOKS:
                yield _Open(prefix + name, value, Area.own)
        for part in _of_class(type(module)):
            yield _Open(prefix + part.name, part.value, part.area)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield _Open(prefix + name, vars(tensor), Area.own)
            if not tensor.requires_grad and tensor.is_leaf:
                yield _Open(f"{prefix}{name}.grad", tensor.grad, Area.held)

    def _value(self, one: _Open) -> Found | None:
        value = one.value
        if isinstance(value, Tensor):
            return self._of_tensor(one, value)
        if one.area is not Area.around:
            if isinstance(value, (float, complex)):
                return Found(one.path, LooseValue(1 + isinstance(value, complex), repr(value).encode()), one.area)
            if isinstance(value, (Decimal, Fraction)):
                return Found(one.path, LooseValue(1, repr(value).encode()), max(one.area, Area.held))
            if isinstance(value, bytes) and len(value) > _SHORT_BYTES:
                return Found(one.path, LooseValue(len(value), digest_of(value)), max(one.area, Area.held))
        if isinstance(value, (bytearray, memoryview)):
            return _of_array(one, np.frombuffer(bytes(value), np.uint8))
        if isinstance(value, (np.ndarray, np.generic, array)):
            return _of_array(one, np.asarray(value))
        return None

    def _inside(self, one: _Open) -> list[_Part]:
        if one.depth >= _DEEPEST or id(one.value) in self._seen or isinstance(one.value, Tensor):
            return []
        parts = _parts(one.value)
        if parts:
            self._seen[id(one.value)] = one.value
        return parts

    def _of_tensor(self, one: _Open, tensor: Tensor) -> Found | None:
        if tensor.is_meta:
            return None
        graph = None if tensor.grad_fn is None else tensor
        area = one.area if graph is None else max(one.area, Area.held)
        if not tensor.is_nested and tensor.layout is torch.strided:
            counted = self._registered.get(storage_key(tensor))
            if counted:
                uncounted = bytes_beside(tensor, counted)
                if not uncounted:
                    return None
                return Found(one.path, value_of(tensor, uncounted), max(area, Area.held), graph)
        return Found(one.path, value_of(tensor, content_of(tensor)), area, graph)


def _area_at(depth: int) -> Area:
    return Area.own if depth < _DEEP else Area.held


def _fewest(area: Area) -> int:
    """The fewest scalars of an array that is told of; single ones beyond the network count and measure."""
    return 2 if area is Area.around else 0


def _globals(packages: Iterable[str]) -> Iterator[_Open]:
    names = tuple(packages)
    tops = {name.partition(".")[0] for name in names}
    for path, module in sorted(sys.modules.items()) if names else ():
        if any(path == name or path.startswith(f"{name}.") for name in names) and isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                home = getattr(
                    value if isinstance(value, (type, FunctionType, _CACHED)) else type(value), "__module__", ""
                )
                theirs = isinstance(home, str) and not _is_trusted(home) and home.partition(".")[0] not in tops
                if not name.startswith("__") and not theirs and not isinstance(value, ModuleType):
                    yield _Open(f"{path}.{name}", value, Area.around)


def _of_class(cls: type) -> Iterator[_Part]:
    """What the classes of plugins hold that a class derives from; its functions hold what all code shares."""
    for base in cls.__mro__:
        if _is_trusted(base.__module__):
            continue
        for name, value in vars(base).items():
            function = _function_of(value)
            if function is not None:
                yield _Part(name, function, Area.around)
            elif not isinstance(value, type):
                yield _Part(name, value)


def _function_of(member: Any) -> Any:
    """The function that a member of a class is or wraps; None if it is none."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    return member if isinstance(member, (FunctionType, _CACHED)) else None


def _of_array(one: _Open, values: np.ndarray[Any, Any]) -> Found | None:
    kind = values.dtype.kind
    if kind in "biufc":
        count = values.size * (1 + (kind == "c"))
        return Found(one.path, LooseValue(count, digest_of(values.tobytes())), one.area)
    if kind == "V" and not values.dtype.hasobject:
        count = values.size * max(1, len(values.dtype.fields or ()))
        return Found(one.path, LooseValue(count, digest_of(values.tobytes())), max(one.area, Area.held))
    return None


def _parts(value: Any) -> list[_Part]:
    """What a container, an object or a function leads to, with how each part is reached."""
    if isinstance(value, Mapping):
        return [_Part(f"[{key!r}]", inner) for key, inner in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [_Part(f"[{index}]", inner) for index, inner in enumerate(value)]
    if isinstance(value, Set):
        return [_Part(f"{{{inner!r}}}", inner) for inner in value]
    if isinstance(value, np.ndarray):
        held = value.ravel().tolist() if value.dtype.kind == "O" else []
        return [_Part(f"[{index}]", inner, Area.held) for index, inner in enumerate(held)]
    if isinstance(value, partial):
        return [_Part(".func", value.func), _Part(".args", value.args), _Part(".keywords", value.keywords)]
    if isinstance(value, (FunctionType, MethodType)):
        return _parts_of_function(value)
    if isinstance(value, torch.optim.Optimizer):
        return [_Part(".param_groups", [group["params"] for group in value.param_groups])]
    if isinstance(value, type):
        return [_Part(f".{part.name}", part.value, Area.around) for part in _of_class(value)]
    return _parts_of_library(value) or _parts_of_object(value)


def _parts_of_library(value: Any) -> list[_Part]:
    """What objects of Python's own library and of torch hold for their users."""
    if isinstance(value, queue.Queue):
        return [_Part(".queue", value.queue, Area.held)]
    if isinstance(value, UserList):
        return [_Part(".data", value.data, Area.held)]
    if isinstance(value, torch.distributions.Distribution):
        return [_Part(f".{name}", inner, Area.held) for name, inner in vars(value).items()]
    if isinstance(value, GeneratorType):
        return [] if value.gi_frame is None else [_Part("", dict(value.gi_frame.f_locals), Area.around)]
    if isinstance(value, _CACHED):
        # Nothing else leads to what a cache without a limit holds.
        return [_Part("", inner, Area.around) for inner in gc.get_referents(value) if type(inner) is dict]
    return []


def _parts_of_object(value: Any) -> list[_Part]:
    cls = type(value)
    # A module that is looked at here is not registered: all that it holds is loose.
    if _is_trusted(cls.__module__) and not isinstance(value, (SimpleNamespace, nn.Module)):
        return []
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        held = {}
    return [
        *(_Part(f".{name}", inner) for name, inner in held.items()),
        *_slots(value),
        *([] if _is_trusted(cls.__module__) else [_Part(f".{cls.__name__}", cls, Area.around)]),
    ]


def _parts_of_function(function: FunctionType | MethodType) -> list[_Part]:
    if isinstance(function, MethodType):
        return [_Part(".__self__", function.__self__), _Part("", function.__func__)]
    if _is_trusted(function.__module__):
        return []
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [
        *(_Part(f".{name}", _content(cell)) for name, cell in cells if name != "__class__"),
        _Part(".__defaults__", function.__defaults__),
        _Part(".__kwdefaults__", function.__kwdefaults__),
        *(_Part(f".{name}", inner, Area.around) for name, inner in vars(function).items()),
    ]


def _content(cell: CellType) -> Any:
    """What a closure holds in one of its cells, which may be empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _slots(value: object) -> Iterator[_Part]:
    for cls in type(value).__mro__:
        for name in _listed(vars(cls).get("__slots__", ())):
            # Python stores a private name under another one, with the class in front.
            private = name.startswith("__") and not name.endswith("__")
            stored = f"_{cls.__name__.lstrip('_')}{name}" if private else name
            try:
                inner = object.__getattribute__(value, stored)
            except AttributeError:
                continue
            if name != "__dict__":
                yield _Part(f".{name}", inner, Area.held if private else Area.own)


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _is_trusted(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in _TRUSTED
