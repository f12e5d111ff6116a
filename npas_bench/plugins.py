"""Methods, tasks, architectures and grids are found through entry points, built-in and third-party ones alike.

Listing reads metadata alone and imports nothing. A plugin that cannot be imported leads to a warning that names it; it
is an error only where it is asked for by name.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from npas_bench.errors import PluginError, SignatureError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npas_bench.architectures import Architecture, Family, Signature
    from npas_bench.methods import Method
    from npas_bench.tasks import Task

log = logging.getLogger(__name__)
T = TypeVar("T", covariant=True)
BUILT_IN = "npas-bench"
_PACKAGE = "npas_bench"


class Entry(NamedTuple):
    """What the metadata of an entry point says.

    Attributes:
        name: name of the plugin.
        object: where the plugin is found, as `module:attribute`.
        distribution: the installed distribution that provides it, with its version.
    """

    name: str
    object: str
    distribution: str


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The plugins of one kind.

    Attributes:
        kind: what the plugins are, as messages call them.
        group: the entry-point group that they are registered in.
        base: the class that they derive from, as `module:class`; it is imported only when a plugin is loaded.
    """

    kind: str
    group: str
    base: str

    @cached_property
    def _points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            known = found.setdefault(point.name, [])
            if all(point.value != other.value for other in known):
                known.append(point)
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return list(self._points)

    def entries(self) -> list[Entry]:
        """What the metadata says about every plugin, without importing any."""
        return [
            Entry(name, point.value, _distribution(point)) for name, points in self._points.items() for point in points
        ]

    def point(self, name: str) -> EntryPoint:
        """The entry point of the plugin called `name`, which is registered under that name."""
        return self._points[name][0]

    def load(self, name: str) -> type[T]:
        """The class called `name`.

        Raises:
            UnknownName: if nothing is registered under that name.
            PluginError: if it cannot be imported, is not what it should be, or is offered by two distributions.
        """
        points = self._points.get(name)
        if points is None:
            raise UnknownName(self.kind, name, self._points, remedy=f"`npas-bench list {self.kind}s` shows all")
        if len(points) > 1:
            rivals = " and ".join(f"{_distribution(point)} ({point.value})" for point in points)
            raise PluginError(f"{self.kind} '{name}' is offered by {rivals}: uninstall one of them")
        point = points[0]
        try:
            loaded: type[T] = _imported(point, self.kind)
        except KeyboardInterrupt:
            raise
        # The import of a plugin may fail in any way; some end the program.
        except BaseException as error:
            raise PluginError(
                f"{self.kind} '{name}' of {_distribution(point)} cannot be imported from {point.value}: "
                f"{type(error).__name__}: {error}{_where(error)}"
            ) from error
        module, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(module), attribute)
        if not (inspect.isclass(loaded) and issubclass(loaded, base)):
            raise PluginError(
                f"{self.kind} '{name}' of {_distribution(point)}: {point.value} is not a subclass of {base.__name__}"
            )
        if getattr(loaded, "name", name) != name:
            raise PluginError(
                f"{self.kind} '{name}' of {_distribution(point)}: {point.value} calls itself '{loaded.name}'"  # type: ignore[attr-defined]
            )
        missing = sorted(getattr(loaded, "__abstractmethods__", ()))
        if missing:
            raise PluginError(f"{self.kind} '{name}' of {_distribution(point)} does not define {', '.join(missing)}")
        return loaded

    def problems(self) -> list[str]:
        """A message for each plugin that cannot be loaded. Every plugin is imported."""
        found = []
        for name in self.names():
            try:
                self.load(name)
            except PluginError as error:
                found.append(str(error))
        return found


def built_in(module: str) -> bool:
    """Tell whether a module belongs to this package."""
    return module.partition(".")[0] == _PACKAGE


def _imported(point: EntryPoint, kind: str) -> Any:
    """What an entry point names; its module is imported, and what that changes of the global state is set back.

    Raises:
        PluginError: if something cannot be set back, so that it would change the results of all other plugins.
    """
    if built_in(point.module) or point.module in sys.modules:
        return point.load()
    from npas_bench.global_state.keeping import kept

    with kept(importing=True) as changes:
        loaded = point.load()
    if changes:
        where = f"{kind} '{point.name}' of {_distribution(point)} changed global state when it was imported: {changes}"
        if changes.lost:
            raise PluginError(f"{where}; {', '.join(changes.lost)} cannot be set back, and other results depend on it")
        log.warning("%s. It was set back, since the results of other code depend on it", where)
    return loaded


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _where(error: BaseException) -> str:
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    outside = [frame for frame in frames if "importlib" not in frame.filename]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if len(outside) > 1 else ""


methods: Registry[Method] = Registry("method", "npas_bench.methods", "npas_bench.methods:Method")
tasks: Registry[Task] = Registry("task", "npas_bench.tasks", "npas_bench.tasks:Task")
families: Registry[Family] = Registry("architecture", "npas_bench.architectures", "npas_bench.architectures:Family")


def task(name: str) -> Task:
    """The task called `name`, or `NAME:ARGUMENT` for a task that takes an argument.

    Raises:
        UnknownName: if there is no such task.
        NpasBenchError: if the argument is missing, or if the task takes none.
    """
    plain, colon, argument = name.partition(":")
    return tasks.load(plain).of(argument if colon else None)


def architecture(name: str) -> Architecture:
    """The architecture called `name`, made by the family with the longest name that it starts with.

    Raises:
        UnknownName: if no family's name fits.
        NpasBenchError: if the family cannot make an architecture of that name.
    """
    return families.load(family_of(name))().parse(name)


def family_of(architecture: str) -> str:
    """The longest name of a family that an architecture's name starts with.

    Raises:
        UnknownName: if no family's name fits.
    """
    known = families.names()
    fitting = [family for family in known if architecture == family or architecture.startswith(f"{family}-")]
    if not fitting:
        raise UnknownName(
            "architecture",
            architecture.split("-")[0],
            known,
            remedy=f"in '{architecture}'; `npas-bench list architectures`",
        )
    return max(fitting, key=len)


def third_party(task: str, architecture: str, method: str) -> list[str]:
    """Which of a task, an architecture and a method are no part of this package, as messages name them.

    One that cannot be loaded is left out: none of its code will run.
    """
    return [
        f"{kind} '{name}' ({loaded.__module__}:{loaded.__qualname__})"
        for kind, name, loaded in _third_party_classes(task, architecture, method)
    ]


def third_party_packages(task: str, architecture: str, method: str) -> list[str]:
    """The packages that the third-party ones of a task, an architecture and a method lie in, or their modules."""
    modules = [loaded.__module__ for _, _, loaded in _third_party_classes(task, architecture, method)]
    return sorted({_package_of(module) for module in modules})


def _package_of(module: str) -> str:
    """The package that a module lies in; the module itself where that is a namespace, which others share."""
    package = sys.modules.get(module.rpartition(".")[0])
    return package.__name__ if package is not None and getattr(package, "__file__", None) else module


def _third_party_classes(task: str, architecture: str, method: str) -> Iterator[tuple[str, str, type]]:
    for registry, name in ((methods, method), (tasks, task.partition(":")[0]), (families, architecture)):
        with suppress(PluginError, UnknownName):
            loaded: type = registry.load(family_of(name) if registry is families else name)
            if not built_in(loaded.__module__):
                yield registry.kind, name, loaded


def third_party_distributions() -> list[str]:
    """The distributions other than this one that provide methods, tasks or architectures; nothing is imported."""
    entries = [entry for registry in (methods, tasks, families) for entry in registry.entries()]
    return sorted({one.distribution for one in entries if not built_in(one.object)})


def check_fit(task: Task, architecture: Architecture) -> None:
    """Refuse an architecture that does not accept the signature of a task.

    Raises:
        SignatureError: if it does not; the message names the families that would fit.
    """
    try:
        architecture.check(task.signature)
    except SignatureError as error:
        message = f"task '{task.name}': {error}"
        if not isinstance(task.signature, architecture.accepts):
            fitting = families_for(task.signature)
            names = ", ".join(fitting) or "none is installed"
            message = f"{message} (architectures for this kind of task: {names})"
        raise SignatureError(message) from None


def families_for(signature: Signature) -> list[str]:
    """The names, as patterns, of all families that accept a signature; families that do not load are left out."""
    fitting = []
    for name in families.names():
        try:
            family = families.load(name)
        except PluginError as error:
            log.warning("%s", error)
            continue
        if isinstance(signature, family.accepts):
            fitting.append(family.pattern)
    return fitting


def grid_files() -> dict[str, tuple[Path, str]]:
    """The file of every named grid, and the distribution that ships it.

    An entry point of `npas_bench.grids` names a package whose `*.yaml` files are grids, named after the files.
    """
    from importlib.util import find_spec
    from pathlib import Path

    found: dict[str, tuple[Path, str]] = {}
    for point in sorted(entry_points(group="npas_bench.grids"), key=lambda point: point.name != BUILT_IN):
        try:
            spec = find_spec(point.value)
        # Looking for a package imports the packages that it lies in, which may fail in any way.
        except (Exception, SystemExit) as error:
            log.warning("grids of %s: %s cannot be imported: %s", _distribution(point), point.value, error)
            continue
        if spec is None:
            log.warning("grids of %s: there is no package %s", _distribution(point), point.value)
        folders = (spec.submodule_search_locations or []) if spec else []
        for folder in folders:
            for path in sorted(Path(folder).glob("*.yaml")):
                found.setdefault(path.stem, (path, _distribution(point)))
    return dict(sorted(found.items()))
