"""`npas-bench list`: what is installed, read from metadata without importing any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench import plugins
from npas_bench.cli.console import errors, output

if TYPE_CHECKING:
    from collections.abc import Iterable

list_app = typer.Typer(
    help="List what is installed: methods, tasks, architectures, grids.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Check = Annotated[bool, typer.Option("--check", help="Import each one and say which fail.")]


@list_app.command("methods")
def list_methods(check: Check = False) -> None:
    """Ways of giving layers their weights."""
    _list(plugins.methods, check)


@list_app.command("tasks")
def list_tasks(check: Check = False) -> None:
    """What networks are trained on and measured by."""
    _list(plugins.tasks, check)


@list_app.command("architectures")
def list_architectures(check: Check = False) -> None:
    """Network families; a member's name has its size behind the family's, as wrn-16-2 has."""
    _list(plugins.families, check)


@list_app.command("grids")
def list_grids() -> None:
    """Named grids, with the files that hold them."""
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
