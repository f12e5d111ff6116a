"""Which code a third-party plugin consists of: its distribution, the version of that, and a digest of its sources.

The sources are all files of the packages that it lies in and of its distribution, data included, but no caches.
"""

from __future__ import annotations

import ast
import hashlib
import marshal
import os
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, NamedTuple
from zipfile import ZipFile
from zipimport import zipimporter

from typing_extensions import override

from npas_bench import plugins
from npas_bench.errors import PluginError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution, EntryPoint

# Of a larger file, such as one of weights, the size, the beginning and the end count.
_LARGE_BYTES = 64 * 2**20
_END_BYTES = 2**20
_BETWEEN_RUNS = (".log", ".tmp", ".lock", "~")


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
    files = _distinct([*_files_of_modules(modules), *_files_of(point), *_files_beside(point)])
    name_, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return PluginCode(kind, name, name_, version, _digest(files or [(loaded.__qualname__, _compiled(loaded))]))


def _inherited(loaded: type) -> Iterator[str]:
    """The modules of the classes that a plugin derives from and that belong to other plugins."""
    registries = (plugins.methods, plugins.tasks, plugins.families)
    tops = {entry.object.partition(":")[0].partition(".")[0] for one in registries for entry in one.entries()}
    return (base.__module__ for base in loaded.__mro__ if base.__module__.partition(".")[0] in tops)


def _files_of_modules(modules: Iterable[str]) -> Iterator[tuple[str, Path | bytes]]:
    """The files of the packages that modules lie in, with their names there."""
    for module in modules:
        spec = None if plugins.built_in(module) else _outermost(module)
        if spec is None or spec.origin is None:
            continue
        found = Path(spec.origin)
        if not found.is_file():
            yield from _files_of_loader(spec)
        elif spec.submodule_search_locations is None:
            yield found.name, found
        else:
            for path in _files_in(found.parent):
                yield path.relative_to(found.parent.parent).as_posix(), path


def _outermost(module: str) -> ModuleSpec | None:
    """The outermost package that a module lies in, or the module itself.

    Namespace packages are passed over, since several distributions share them.
    """
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        # The module's own code has been imported already, and a module of the outermost level is looked for only.
        with suppress(ImportError, ValueError):
            spec = find_spec(".".join(parts[:length]))
            if spec is not None and spec.origin is not None:
                return spec
    return None


def _files_in(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        # Hidden folders belong to tools.
        folders[:] = [name for name in folders if not name.startswith(".") and "cache" not in name.lower()]
        yield from (Path(place, name) for name in files if _is_source(name))


def _is_source(name: str) -> bool:
    """Tell whether a file of a package is part of it, and not what tools or earlier runs have left there."""
    return not name.startswith(".") and not name.endswith(_BETWEEN_RUNS)


def _files_of_loader(spec: ModuleSpec) -> Iterator[tuple[str, bytes]]:
    """What a module or package consists of that lies in no folder, but in an archive or somewhere else."""
    loader = spec.loader
    if isinstance(loader, zipimporter):
        top = spec.name.rpartition(".")[2]
        with ZipFile(loader.archive) as archive:
            for name in archive.namelist():
                inner = name.removeprefix(loader.prefix)
                own = name.startswith(loader.prefix) and inner.split("/")[0].split(".")[0] == top
                if own and not name.endswith("/") and not inner.split("/")[0].endswith((".dist-info", ".egg-info")):
                    yield inner, archive.read(name)
        return
    # Loaders of an odd kind may lack the method, or fail in any way.
    with suppress(Exception):
        source: str | None = loader.get_source(spec.name)  # type: ignore[union-attr]
        if source is not None:
            yield f"{spec.name}.py", source.encode()


def _files_of(point: EntryPoint) -> Iterator[tuple[str, Path | bytes]]:
    """The files of other modules of the distribution that provides a plugin, with their names in it."""
    if point.dist is None:
        return
    tops = _top_levels(point.dist)
    for file in point.dist.files or ():
        # An editable installation has files of its own that say where the sources are.
        if "__pycache__" not in file.parts and not file.name.startswith("__editable") and _is_source(file.name):
            first = file.parts[0]
            top = first.partition(".")[0]
            beside = first == ".." or first.endswith((".dist-info", ".egg-info", ".pth"))
            if top in tops if tops is not None else not beside:
                yield file.as_posix(), Path(str(file.locate()))
    for top in tops or ():
        yield from _files_of_modules([top])


def _top_levels(distribution: Distribution) -> set[str] | None:
    """The modules that a distribution consists of; None if it does not say."""
    listed = distribution.read_text("top_level.txt")
    return None if listed is None else set(listed.split())


def _files_beside(point: EntryPoint) -> Iterator[tuple[str, Path | bytes]]:
    """The files of modules beside a plugin that its sources import, where no metadata lists its files."""
    spec = _outermost(point.module)
    if spec is None or spec.origin is None or _is_listed(point, Path(spec.origin)):
        return
    first = Path(spec.origin) if spec.submodule_search_locations is None else Path(spec.origin).parent
    if first.parent.name in ("site-packages", "dist-packages"):
        # Everything that is installed lies beside it.
        return
    seen, left = {first.stem}, [first]
    while left:
        for name in sorted(_imported_by(left.pop()) - seen):
            seen.add(name)
            if plugins.built_in(name):
                continue
            beside = [path for path in (first.parent / name, first.parent / f"{name}.py") if path.exists()]
            if beside:
                left.append(beside[0])
                yield from _files_of_modules([name])


def _is_listed(point: EntryPoint, file: Path) -> bool:
    files = (point.dist.files if point.dist else None) or ()
    return any(file.name == one.name and Path(str(one.locate())) == file for one in files)


def _imported_by(place: Path) -> set[str]:
    """The outermost names of the modules that the sources of a module or package import from outside of it."""
    found: set[str] = set()
    for path in [place] if place.is_file() else _files_in(place):
        if path.suffix != ".py":
            continue
        # What Python cannot read imports nothing.
        with suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    return found


def _distinct(files: Iterable[tuple[str, Path | bytes]]) -> list[tuple[str, Path | bytes]]:
    """The files that are there, each once."""
    found: dict[Path | str, tuple[str, Path | bytes]] = {}
    for name, content in files:
        if isinstance(content, bytes):
            found.setdefault(name, (name, content))
        elif content.is_file():
            found.setdefault(content.resolve(), (name, content))
    return sorted(found.values(), key=lambda file: file[0])


def _digest(files: Iterable[tuple[str, Path | bytes]]) -> str:
    digest = hashlib.sha256()
    for name, place in files:
        size, content = (len(place), place) if isinstance(place, bytes) else _read(place)
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def _read(path: Path) -> tuple[int, bytes]:
    """The size of a file in bytes, and as much of its content as counts."""
    # A file that cannot be read cannot be what a plugin computes with.
    with suppress(OSError), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _LARGE_BYTES:
            return size, file.read()
        begin = file.read(_END_BYTES)
        file.seek(size - _END_BYTES)
        return size, begin + file.read(_END_BYTES)
    return 0, b""


def _compiled(loaded: type) -> bytes:
    """The compiled functions of a class of which no sources are found, with its name."""
    functions = [
        member.__code__
        for base in loaded.__mro__
        if not plugins.built_in(base.__module__)
        for member in vars(base).values()
        if isinstance(member, FunctionType)
    ]
    return b"".join(map(_without_place, functions))


def _without_place(code: CodeType) -> bytes:
    constants = [_without_place(one) if isinstance(one, CodeType) else _written(one) for one in code.co_consts]
    return marshal.dumps((code.co_name, code.co_names, code.co_varnames, code.co_code, constants))


def _written(constant: object) -> str:
    # The order of a set differs from process to process.
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
