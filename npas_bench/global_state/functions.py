"""Functions and classes that all code of a process shares, and that any code can replace by others."""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn, optim

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES = (
    *("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.nn.utils", "torch.optim", "torch.random"),
    *("torch.autograd", "torch.linalg", "torch.fft", "torch.special", "torch.func", "torch.cuda", "torch.amp"),
    *("torch.utils.data", "torch.utils.checkpoint", "torchvision.transforms.functional"),
    *(
        "numpy",
        "numpy.random",
        "numpy.linalg",
        "builtins",
        "random",
        "math",
        "statistics",
        "copy",
        "time",
        "json",
        "os",
    ),
    "warnings",
)
_OWN = "npas_bench"
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

    @classmethod
    def of(cls, function: FunctionType) -> _Inside:
        return cls(function.__code__, function.__defaults__, function.__kwdefaults__)


class Functions:
    """The functions and classes of torch, of this package and of what they use, as they are when this is made."""

    def __init__(self) -> None:
        self._homes = [(home, dict(vars(home))) for home in _homes()]
        self._insides = {
            function: (home, name, _Inside.of(function))
            for home, members in self._homes
            for name, member in members.items()
            if (function := _python_function(member)) is not None
        }

    def put_back(self) -> list[ReplacedFunction]:
        """Give every name back what it stood for, and return those that stood for something else."""
        found = [
            ReplacedFunction(_called(home, name), _restore(home, name, before))
            for home, members in self._homes
            for name, before in _changed(home, members)
        ]
        for function, (home, name, inside) in self._insides.items():
            if _Inside.of(function) != inside:
                function.__code__, function.__defaults__, function.__kwdefaults__ = inside
                found.append(ReplacedFunction(_called(home, name), restored=True))
        return found


def _homes() -> Iterator[ModuleType | type]:
    """The modules that are watched, with the classes in them and the classes that these derive from."""
    modules = [sys.modules[name] for name in _MODULES if name in sys.modules]
    modules += [module for name, module in sys.modules.items() if name.partition(".")[0] == _OWN]
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
            if name not in members and _counts(value) and not _by_torch(home, name, _ABSENT, value)
        ]
    return changed


def _counts(value: Any) -> bool:
    """Tell whether a member is code. Other members, such as caches and counters, change at any time."""
    return callable(value) or isinstance(value, property | staticmethod | classmethod)


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


def _python_function(member: Any) -> FunctionType | None:
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    return function if isinstance(function, FunctionType) else None


def _called(home: ModuleType | type, name: str) -> str:
    if isinstance(home, ModuleType):
        return f"{home.__name__}.{name}"
    module = "torch" if home is torch.Tensor else home.__module__
    return f"{module}.{home.__qualname__}.{name}"
