"""The names that shells complete, which are read from metadata alone, so that nothing heavy is imported."""

from __future__ import annotations

from npas_bench import plugins
from npas_bench.cells.grid_files import grid_files


def method_names(incomplete: str) -> list[str]:
    """The names of methods that begin with a text."""
    return _beginning(plugins.methods.names(), incomplete)


def task_names(incomplete: str) -> list[str]:
    """The names of tasks that begin with a text."""
    return _beginning(plugins.tasks.names(), incomplete)


def grid_names(incomplete: str) -> list[str]:
    """The names of grids that begin with a text."""
    return _beginning(list(grid_files()), incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
