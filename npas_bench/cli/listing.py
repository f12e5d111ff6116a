"""The commands `npas-bench list`, which read what is installed from metadata without importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench import plugins
from npas_bench.cli.console import errors, output

if TYPE_CHECKING:
    from collections.abc import Iterable

list_app = typer.Typer(
    help="List the methods, tasks, architectures or grids that are installed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Check = Annotated[bool, typer.Option("--check", help="Import each of them and say which fail.")]


@list_app.command("methods")
def list_methods(check: Check = False) -> None:
    """List methods: ways of making the weights of layers from a fixed budget of parameters."""
    _list(plugins.methods, check)


@list_app.command("tasks")
def list_tasks(check: Check = False) -> None:
    """List tasks: the data that networks are trained on, and the metrics that they are compared by."""
    _list(plugins.tasks, check)


@list_app.command("architectures")
def list_architectures(check: Check = False) -> None:
    """List families of networks; the name of a member has its size behind that of the family, as in wrn-16-2."""
    _list(plugins.families, check)


@list_app.command("grids")
def list_grids() -> None:
    """List grids, with the files that hold them."""
    _table((name, str(path), shipped) for name, (path, shipped) in plugins.grid_files().items())


def _list(registry: plugins.Registry[object], check: bool) -> None:
    _table(registry.entries())
    if check:
        for problem in registry.problems():
            errors.print(f"warning: {problem}", style="yellow", markup=False, soft_wrap=True)


def _table(rows: Iterable[tuple[str, str, str]]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, where, distribution in rows:
        table.add_row(name, where, distribution)
    output.print(table)
