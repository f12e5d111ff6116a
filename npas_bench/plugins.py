"""Methods, tasks and architectures are found through entry points, built-in and third-party ones alike.

Listing reads metadata alone and imports nothing. A plugin that cannot be imported leads to a warning that names it; it
is an error only where it is asked for by name.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import signal
import sys
import traceback
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from npas_bench.errors import NpasBenchError, PluginError, SignatureError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from npas_bench.architectures import Architecture, Family, Signature
    from npas_bench.methods import Method
    from npas_bench.tasks import Task

log = logging.getLogger(__name__)
T = TypeVar("T", covariant=True)
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
            Entry(name, point.value, distribution_of(point))
            for name, points in self._points.items()
            for point in points
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
            rivals = " and ".join(f"{distribution_of(point)} ({point.value})" for point in points)
            raise PluginError(f"{self.kind} '{name}' is offered by {rivals}: uninstall one of them")
        point = points[0]
        try:
            loaded: type[T] = _imported(point, self.kind)
        # The import of a plugin may fail in any way; some end the program.
        except BaseException as error:
            if _ends_command(error):
                raise
            whose = f"{self.kind} '{name}' of {distribution_of(point)}"
            raise PluginError(f"{whose} cannot be imported from {point.value}: {_said(error)}") from error
        base = _named(self.base)
        if not (inspect.isclass(loaded) and issubclass(loaded, base)):
            raise PluginError(
                f"{self.kind} '{name}' of {distribution_of(point)}: {point.value} is not a subclass of {base.__name__}"
            )
        if getattr(loaded, "name", name) != name:
            raise PluginError(
                f"{self.kind} '{name}' of {distribution_of(point)}: {point.value} calls itself '{loaded.name}'"  # type: ignore[attr-defined]
            )
        missing = sorted(getattr(loaded, "__abstractmethods__", ()))
        if missing:
            raise PluginError(f"{self.kind} '{name}' of {distribution_of(point)} does not define {', '.join(missing)}")
        return loaded

    @contextmanager
    def asked(self, name: str) -> Iterator[None]:
        """A block that asks the plugin called `name` for something, and whose errors name a third-party plugin.

        Raises:
            PluginError: in place of all that such a plugin raises, also to end the program; the package's own errors
                pass as they are, and so does what a signal raises.
        """
        try:
            yield
        except BaseException as error:
            points = self._points.get(name, [])
            if all(built_in(one.module) for one in points) or isinstance(error, NpasBenchError) or _ends_command(error):
                raise
            whose = f"{self.kind} '{name}' of {distribution_of(points[0])}"
            raise PluginError(f"{whose} fails: {_said(error)}") from error

    def expect(self, name: str, function: str, made: object, wanted: str) -> None:
        """Refuse what a function of the plugin called `name` returned, unless it is of a class, `module:class`.

        Raises:
            PluginError: if it is something else.
        """
        if not isinstance(made, _named(wanted)):
            what, whose = wanted.partition(":")[2], f"{self.kind} '{name}' of {distribution_of(self.point(name))}"
            raise PluginError(f"{whose}: {function} returned {made!r}, where {what} is wanted")

    def problems(self) -> list[str]:
        """A message for each plugin that cannot be loaded. Every plugin is imported."""
        found = []
        for name in self.names():
            try:
                self.load(name)
            except PluginError as error:
                found.append(str(error))
        return found


def _named(place: str) -> type:
    """The class that `module:class` names."""
    module, _, attribute = place.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def built_in(module: str) -> bool:
    """Tell whether a module belongs to this package."""
    return module.partition(".")[0] == _PACKAGE


def import_built_in() -> None:
    """Import all built-in plugins, so that what third-party code changes of them is noticed: only what is there is."""
    for registry in (methods, tasks, families):
        for point in entry_points(group=registry.group):
            if built_in(point.module):
                # A dependency that is missing is told when the plugin is asked for.
                with suppress(ImportError):
                    importlib.import_module(point.module)


def _imported(point: EntryPoint, kind: str) -> Any:
    """What an entry point names; its module is imported, and what that changes of the global state is set back.

    Raises:
        PluginError: if something cannot be set back, so that it would change the results of all other plugins.
    """
    if built_in(point.module) or point.module in sys.modules:
        return point.load()
    from npas_bench.global_state.keeping import kept

    import_built_in()
    # Standard output belongs to the command, which may write JSON for a program there.
    with redirect_stdout(sys.stderr), kept(importing=True) as changes:
        loaded = point.load()
    if changes:
        where = (
            f"{kind} '{point.name}' of {distribution_of(point)} changed global state when it was imported: {changes}"
        )
        if changes.lost:
            raise PluginError(f"{where}; {', '.join(changes.lost)} cannot be set back, and other results depend on it")
        log.warning("%s. It was set back, since the results of other code depend on it", where)
    return loaded


def distribution_of(point: EntryPoint) -> str:
    """The distribution that provides a plugin, with its version, as messages name it."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _said(error: BaseException) -> str:
    """What an error of a plugin says, and where it was raised."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    outside = [frame for frame in frames if "importlib" not in frame.filename]
    where = f" ({outside[-1].filename}, line {outside[-1].lineno})" if len(outside) > 1 else ""
    return f"{type(error).__name__}: {error}{where}"


def _ends_command(error: BaseException) -> bool:
    """Tell whether an error is to end the command whatever code it came through, as Ctrl-C and signals do."""
    if isinstance(error, Exception):
        return False
    if isinstance(error, GeneratorExit) or built_in(type(error).__module__):
        return True
    # Code that is interrupted may end the program by itself.
    if any(isinstance(one, KeyboardInterrupt) for one in (error, error.__context__)):
        return True
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


@contextmanager
def kept_from_exiting(task: str, architecture: str, method: str) -> Iterator[None]:
    """A block that runs the code of a task, an architecture and a method, which may fail but not end the command.

    Raises:
        PluginError: in place of `SystemExit` and of all else that is no `Exception`, where one of them is third-party
            code; it names what is.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        foreign = third_party(task, architecture, method)
        if not foreign or _ends_command(error):
            raise
        raise PluginError(f"{' or '.join(foreign)} tried to end the program: {_said(error)}") from error


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
    loaded = tasks.load(plain)
    with tasks.asked(plain):
        return loaded.of(argument if colon else None)


def method(name: str, options: Mapping[str, Any]) -> Method:
    """The method called `name` with options.

    Raises:
        UnknownName: if there is no such method.
        OptionError: if it has no such option, or if an option does not take the value.
        PluginError: if it cannot be loaded or made.
    """
    loaded = methods.load(name)
    with methods.asked(name):
        return loaded(options)


def architecture(name: str) -> Architecture:
    """The architecture called `name`, made by the family with the longest name that it starts with.

    Raises:
        UnknownName: if no family's name fits.
        NpasBenchError: if the family cannot make an architecture of that name.
    """
    family = family_of(name)
    loaded = families.load(family)
    with families.asked(family):
        made = loaded().parse(name)
    families.expect(family, "parse", made, "npas_bench.architectures:Architecture")
    return made


def family_of(architecture: str) -> str:
    """The longest name of a family that an architecture's name starts with.

    Raises:
        UnknownName: if no family's name fits.
    """
    fitting = _fitting(architecture)
    if not fitting:
        raise UnknownName(
            "architecture",
            architecture.split("-")[0],
            families.names(),
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


def _fitting(architecture: str) -> list[str]:
    """The names of families that an architecture's name starts with."""
    return [family for family in families.names() if architecture == family or architecture.startswith(f"{family}-")]


def check_fit(task: Task, architecture: Architecture) -> None:
    """Refuse an architecture that does not accept the signature of a task.

    Raises:
        SignatureError: if it does not; the message names the families that would fit.
    """
    with tasks.asked(task.name.partition(":")[0]):
        signature = task.signature
    try:
        # An architecture that a script made need not be registered.
        with families.asked(max(_fitting(architecture.name), key=len, default="")):
            architecture.check(signature)
    except SignatureError as error:
        message = f"task '{task.name}': {error}"
        if not isinstance(signature, architecture.accepts):
            fitting = families_for(signature)
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
