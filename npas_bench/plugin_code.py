"""Which code a third-party plugin consists of: its distribution, the version of that, and a digest of its sources."""

from __future__ import annotations

import hashlib
import importlib.machinery
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from npas_bench import plugins
from npas_bench.errors import PluginError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import Distribution, EntryPoint

_SUFFIXES = tuple(importlib.machinery.all_suffixes())


class PluginCode(NamedTuple):
    """The code of a third-party plugin.

    Attributes:
        kind: `method`, `task` or `architecture`.
        name: the name that it is registered under; of an architecture, that of its family.
        distribution: name of the distribution that provides it; empty if that is not known.
        version: version of the distribution; empty if that is not known.
        digest: first digits of the sha256 of its sources, the same wherever the same code is installed.
    """

    kind: str
    name: str
    distribution: str
    version: str
    digest: str

    @override
    def __str__(self) -> str:
        provider = f" of {self.distribution} {self.version}".rstrip() if self.distribution else ""
        return f"{self.kind} '{self.name}'{provider} (sources {self.digest[:8]})"


def plugin_code(task: str, architecture: str, method: str) -> tuple[PluginCode, ...]:
    """The code of those of a task, an architecture and a method that are no part of this package.

    One that cannot be loaded is left out.
    """
    try:
        family = plugins.family_of(architecture)
    except UnknownName:
        family = ""
    places = (("method", method), ("task", task.partition(":")[0]), ("architecture", family))
    return tuple(code for place in places if (code := _code_of(*place)) is not None)


@cache
def _code_of(kind: str, name: str) -> PluginCode | None:
    """The code of a plugin as it is when this is first asked, soon after the plugin was imported."""
    registry = next(one for one in (plugins.methods, plugins.tasks, plugins.families) if one.kind == kind)
    try:
        loaded: type = registry.load(name)
    except (PluginError, UnknownName):
        return None
    point = registry.point(name)
    modules = dict.fromkeys((point.module, loaded.__module__, *_inherited(loaded)))
    if all(plugins.built_in(module) for module in modules):
        return None
    files = _distinct([*_files_of_modules(modules), *_files_of(point)])
    name_, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return PluginCode(kind, name, name_, version, _digest(files))


def _inherited(loaded: type) -> Iterator[str]:
    """The modules of the classes that a plugin derives from and that belong to other plugins."""
    registries = (plugins.methods, plugins.tasks, plugins.families)
    tops = {entry.object.partition(":")[0].partition(".")[0] for one in registries for entry in one.entries()}
    return (base.__module__ for base in loaded.__mro__ if base.__module__.partition(".")[0] in tops)


def _files_of_modules(modules: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The files of the packages that modules lie in, with their names there."""
    for module in modules:
        found = None if plugins.built_in(module) else _outermost(module)
        if found is None:
            continue
        if found.name != "__init__.py":
            yield found.name, found
            continue
        package = found.parent
        for path in package.rglob("*"):
            if path.name.endswith(_SUFFIXES) and "__pycache__" not in path.parts:
                yield path.relative_to(package.parent).as_posix(), path


def _outermost(module: str) -> Path | None:
    """The file of the outermost package that a module lies in, or of the module itself.

    Namespace packages are passed over, since several distributions share them.
    """
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        # The module's own code has been imported already, and a module of the outermost level is looked for only.
        with suppress(ImportError, ValueError):
            spec = find_spec(".".join(parts[:length]))
            if spec is not None and spec.origin is not None:
                return Path(spec.origin)
    return None


def _files_of(point: EntryPoint) -> Iterator[tuple[str, Path]]:
    """The files of other modules of the distribution that provides a plugin, with their names in it."""
    if point.dist is None:
        return
    tops = _top_levels(point.dist)
    for file in point.dist.files or ():
        # An editable installation has files of its own that say where the sources are.
        if file.name.endswith(_SUFFIXES) and "__pycache__" not in file.parts and not file.name.startswith("__editable"):
            top = file.parts[0].partition(".")[0]
            if tops is None or top in tops:
                yield file.as_posix(), Path(str(file.locate()))
    for top in tops or ():
        yield from _files_of_modules([top])


def _top_levels(distribution: Distribution) -> set[str] | None:
    """The modules that a distribution consists of; None if it does not say."""
    listed = distribution.read_text("top_level.txt")
    return None if listed is None else set(listed.split())


def _distinct(files: Iterable[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """The files that are there, each once."""
    found: dict[Path, str] = {}
    for name, path in files:
        if path.is_file():
            found.setdefault(path.resolve(), name)
    return sorted((name, path) for path, name in found.items())


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]
