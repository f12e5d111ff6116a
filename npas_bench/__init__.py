"""Benchmark suite and leaderboard for Neural Parameter Allocation Search.

What `__all__` lists is the public interface; `docs/api.md` shows how to use it. Each name is imported when it is first
used, so that `import npas_bench` alone takes no time.
"""

from typing import TYPE_CHECKING, Any

from npas_bench.account import complete_account

if TYPE_CHECKING:
    from npas_bench.api import run_cells
    from npas_bench.architectures import Architecture
    from npas_bench.cells.cell import Cell
    from npas_bench.methods import Method, SharingMethod
    from npas_bench.recipe import Recipe
    from npas_bench.results import load_results
    from npas_bench.tasks import Task

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Cell",
    "Method",
    "Recipe",
    "SharingMethod",
    "Task",
    "__version__",
    "load_results",
    "run_cells",
]

_MODULES = {
    "Architecture": "npas_bench.architectures",
    "Cell": "npas_bench.cells.cell",
    "Method": "npas_bench.methods",
    "Recipe": "npas_bench.recipe",
    "SharingMethod": "npas_bench.methods",
    "Task": "npas_bench.tasks",
    "load_results": "npas_bench.results",
    "run_cells": "npas_bench.api",
}


complete_account()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
