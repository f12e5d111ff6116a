"""The commands `npas-bench list`, which show what is installed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from npas_bench import plugins
from npas_bench.cells.grid_files import grid_files
from npas_bench.cli.console import errors, output
from npas_bench.cli.help import WholeHelp
from npas_bench.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo

list_app = typer.Typer(
    cls=WholeHelp,
    help="List the methods, tasks, architectures or grids that are installed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Check = Annotated[bool, typer.Option("--check", help="Say which of them fail to load, and end with 1 if any does.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Options = Annotated[bool, typer.Option("--options", help="Show each method's options, with defaults and sources.")]


@list_app.command("methods")
def list_methods(check: Check = False, options: Options = False, as_json: AsJson = False) -> None:
    """List methods: ways of making the weights of layers from a fixed budget of parameters."""
    _list(plugins.methods, check=check, options=options, as_json=as_json)


@list_app.command("tasks")
def list_tasks(check: Check = False, as_json: AsJson = False) -> None:
    """List tasks: the data that networks are trained on, and the metrics that they are compared by."""
    _list(plugins.tasks, check=check, as_json=as_json)


@list_app.command("architectures")
def list_architectures(check: Check = False, as_json: AsJson = False) -> None:
    """List families of networks; the name of a member has its size behind that of the family, as in wrn-16-2."""
    _list(plugins.families, check=check, as_json=as_json)


@list_app.command("grids")
def list_grids(as_json: AsJson = False) -> None:
    """List grids, with what they are for and the files that hold them."""
    entries = [
        {"name": name, "about": _about_grid(name), "file": str(path), "distribution": distribution}
        for name, (path, distribution) in grid_files().items()
    ]
    if as_json:
        _print_json(entries)
    else:
        _print(entries)


def _about_grid(name: str) -> str:
    from npas_bench.cells.grid import read_grid
    from npas_bench.errors import NpasBenchError

    try:
        return read_grid(name).about
    except NpasBenchError as error:
        return f"cannot be read: {error}"


def _list(registry: plugins.Registry[object], *, check: bool, as_json: bool, options: bool = False) -> None:
    entries = [_described(registry, entry, with_options=options) for entry in registry.entries()]
    if as_json:
        _print_json(entries)
    else:
        _print(entries)
    if check:
        problems = registry.problems()
        for problem in problems:
            errors.print(f"warning: {problem}", style="yellow", soft_wrap=True)
        if problems:
            raise typer.Exit(1)


def _described(registry: plugins.Registry[object], entry: plugins.Entry, *, with_options: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": entry.name, "about": "", "object": entry.object}
    described["distribution"] = entry.distribution
    try:
        plugin = registry.load(entry.name)
    except PluginError as error:
        return described | {"about": f"cannot be loaded: {error}"}
    described["about"] = _first_sentence(plugin)
    if with_options:
        described["options"] = _options(plugin)
    return described


def _first_sentence(plugin: type) -> str:
    return " ".join((inspect.getdoc(plugin) or "").split("\n\n")[0].split())


def _options(method: Any) -> list[dict[str, Any]]:
    """The options of a method, with what its class says about each of them."""
    said = _documented(inspect.getdoc(method.Options) or "")
    return [
        {
            "name": name,
            "required": field.is_required(),
            "default": _default(field),
            "type": _type_name(field.annotation),
            "about": said.get(name, ""),
        }
        for name, field in method.Options.model_fields.items()
    ]


def _default(field: FieldInfo) -> Any:
    """The default of an option as JSON, or in Python's words where it has no such form; None if there is none."""
    from pydantic import TypeAdapter

    if field.is_required():
        return None
    # A default may be made from the values of other options.
    default = field.get_default(call_default_factory=True, validated_data={})
    return TypeAdapter(Any).dump_python(default, mode="json", fallback=repr)


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")


def _documented(text: str) -> dict[str, str]:
    """What the section `Attributes` of a docstring says about each attribute."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, begun = line.strip().partition(": ")
            found[name] = begun
        elif line.startswith("     ") and name:
            found[name] += f" {line.strip()}"
        elif line.strip():
            break
    return found


def _print_json(entries: Sequence[dict[str, Any]]) -> None:
    import json

    typer.echo(json.dumps(entries, indent=1))


def _print(entries: Sequence[dict[str, Any]]) -> None:
    from rich.text import Text

    from npas_bench.database.labels import printable

    for entry in entries:
        place = entry.get("object") or entry.get("file")
        output.print(Text(printable(entry["name"]), style="bold"), soft_wrap=True)
        if entry["about"]:
            output.print(f"    {entry['about']}", soft_wrap=not output.is_terminal)
        output.print(f"    {place}  ({entry['distribution']})", style="dim", soft_wrap=True)
        for option in entry.get("options", ()):
            default = "none" if option["default"] is None else option["default"]
            needed = "required" if option["required"] else f"default {default}"
            head = f"      {option['name']} ({option['type']}, {needed})"
            output.print(f"{head}: {option['about']}" if option["about"] else head, soft_wrap=not output.is_terminal)
