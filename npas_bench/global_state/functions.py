"""Functions and classes that all code of a process shares, and that any code can replace by others."""

from __future__ import annotations

import sys
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn, optim

from npas_bench import torch_internals

if TYPE_CHECKING:
    from collections.abc import Iterator

# Packages whose modules are all watched, as far as they are loaded, ...
_PACKAGES = (
    *("torch.nn", "torch.optim", "torch.autograd", "torch.linalg", "torch.fft", "torch.special", "torch.func"),
    *("torch.amp", "torch.utils.data", "torchvision.transforms", "npas_bench"),
)
# ... and modules that are watched alone.
_MODULES = (
    *("torch", "torch.random", "torch.cuda", "torch.functional", "torch.utils.checkpoint", "torch.overrides"),
    *torch_internals.INNER_MODULES,
    *("numpy", "numpy.random", "numpy.linalg", "sklearn.datasets", "sklearn.cluster", "PIL.Image", "PIL.ImageFile"),
    *("builtins", "random", "math", "statistics", "copy", "time", "json", "os", "warnings"),
)
# A class of C code is fixed unless it has this flag.
_HEAP_TYPE = 1 << 9
_ABSENT = object()


class ReplacedFunction(NamedTuple):
    """A name that stands for something else than before.

    Attributes:
        name: the name with that of its module or class.
        restored: whether it was given back what it stood for.
    """

    name: str
    restored: bool


class _Inside(NamedTuple):
    """The parts of a Python function that can be exchanged in place."""

    code: Any
    defaults: Any
    keyword_defaults: Any
    enclosed: tuple[FunctionType | None, ...]

    @classmethod
    def of(cls, function: FunctionType) -> _Inside:
        return cls(
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            tuple(map(_enclosed, function.__closure__)) if function.__closure__ else (),
        )

    def put_into(self, function: FunctionType) -> None:
        """Make a function be this again inside."""
        function.__code__, function.__defaults__, function.__kwdefaults__ = self[:3]
        for cell, before in zip(function.__closure__ or (), self.enclosed, strict=True):
            if before is not None and _enclosed(cell) is not before:
                cell.cell_contents = before


def _enclosed(cell: CellType) -> FunctionType | None:
    """The function that a decorated one encloses in a cell; None for all else, which may change at any time."""
    try:
        content = cell.cell_contents
    except ValueError:
        return None
    return content if isinstance(content, FunctionType) else None


class Functions:
    """The functions and classes of torch, of this package and of what they use, as they are when this is made."""

    def __init__(self) -> None:
        self._homes = [(home, dict(vars(home))) for home in _homes()]
        self._insides: dict[FunctionType, tuple[ModuleType | type, str, _Inside]] = {}
        for home, members in self._homes:
            for name, member in members.items():
                self._note(home, name, _python_functions(member))

    def _note(self, home: ModuleType | type, name: str, functions: list[FunctionType]) -> None:
        """Note what is inside functions, and inside those that they wrap."""
        while functions:
            function = functions.pop()
            if function not in self._insides:
                inside = _Inside.of(function)
                self._insides[function] = (home, name, inside)
                wrapped = vars(function).get("__wrapped__")
                functions += [one for one in (wrapped, *inside.enclosed) if isinstance(one, FunctionType)]

    def put_back(self) -> list[ReplacedFunction]:
        """Give every name back what it stood for, and return those that stood for something else."""
        found = [
            ReplacedFunction(_called(home, name), _restore(home, name, before))
            for home, members in self._homes
            for name, before in _changed(home, members)
        ]
        for function, (home, name, inside) in self._insides.items():
            if _Inside.of(function) != inside:
                inside.put_into(function)
                found.append(ReplacedFunction(_called(home, name), restored=True))
        return found


def _homes() -> Iterator[ModuleType | type]:
    """The modules that are watched, with the classes in them and the classes that these derive from."""
    within = tuple(f"{package}." for package in _PACKAGES)
    known = {*_PACKAGES, *_MODULES}
    modules = [
        module
        for name, module in list(sys.modules.items())
        if (name in known or name.startswith(within)) and isinstance(module, ModuleType)
    ]
    classes: dict[type, None] = {}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, type) and value not in classes:
                classes |= dict.fromkeys(value.__mro__)
    yield from modules
    yield from (one for one in classes if one.__flags__ & _HEAP_TYPE)


def _changed(home: ModuleType | type, members: dict[str, Any]) -> list[tuple[str, Any]]:
    """The names in a module or class that stand for something else, with what they stood for."""
    now = vars(home)
    changed = [
        (name, before)
        for name, before in members.items()
        if now.get(name, _ABSENT) is not before and _counts(before) and not _by_torch(home, name, before, now.get(name))
    ]
    if isinstance(home, type):
        # A method that a class did not define before hides the one that it inherited.
        changed += [
            (name, _ABSENT)
            for name, value in now.items()
            if name not in members
            and (_counts(value) or _hides(home, name))
            and not _by_torch(home, name, _ABSENT, value)
        ]
    return changed


def _counts(value: Any) -> bool:
    """Tell whether a member is code. Other members, such as caches and counters, change at any time."""
    return callable(value) or isinstance(value, property | staticmethod | classmethod | ModuleType)


def _hides(home: type, name: str) -> bool:
    return any(_counts(vars(base).get(name)) for base in home.__mro__[1:])


def _by_torch(home: ModuleType | type, name: str, before: Any, now: Any) -> bool:
    """Tell whether torch itself has replaced a member, as it does when parts of it are first used."""
    if home is torch and name == "Storage":
        # It follows the default dtype.
        return True
    file = str(now.__code__.co_filename) if isinstance(now, FunctionType) else ""
    if home is torch and name == "manual_seed":
        return file.startswith(torch.__path__[0]) and getattr(now, "__wrapped__", None) is before
    if not (isinstance(home, type) and (home is nn.Module or issubclass(home, optim.Optimizer))):
        return False
    # The first use of the compiler keeps it out of some members; making the first optimiser wraps its step.
    made_first = getattr(now, "hooked", False) and not getattr(before, "hooked", False)
    profiled = made_first and getattr(now, "__wrapped__", None) is before
    return profiled or file.startswith(f"{torch.__path__[0]}/_dynamo/")


def _restore(home: ModuleType | type, name: str, before: Any) -> bool:
    try:
        if before is _ABSENT:
            delattr(home, name)
        else:
            setattr(home, name, before)
    except (AttributeError, TypeError):
        return False
    return vars(home).get(name, _ABSENT) is before


def _python_functions(member: Any) -> list[FunctionType]:
    """The functions that a member consists of."""
    if isinstance(member, FunctionType):
        return [member]
    parts: tuple[Any, ...] = ()
    if isinstance(member, staticmethod | classmethod):
        parts = (member.__func__,)
    elif isinstance(member, property):
        parts = (member.fget, member.fset, member.fdel)
    return [part for part in parts if isinstance(part, FunctionType)]


def _called(home: ModuleType | type, name: str) -> str:
    if isinstance(home, ModuleType):
        return f"{home.__name__}.{name}"
    module = "torch" if home is torch.Tensor else home.__module__
    return f"{module}.{home.__qualname__}.{name}"
