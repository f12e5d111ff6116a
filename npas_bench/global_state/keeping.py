"""Keeping the global state: whatever a block of code changes of it is set back when the block ends."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from npas_bench.global_state.functions import Functions
from npas_bench.global_state.switches import Generators, all_switches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from npas_bench.global_state.switch import Switch


@dataclass
class Changes:
    """What a block of code changed of the global state; it is empty until the block has ended.

    Attributes:
        names: what was changed, as messages name it.
        lost: those of the names that could not be set back.
        computing: whether results of other code depend on any of it.
    """

    names: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    computing: bool = False

    def __bool__(self) -> bool:
        return bool(self.names)

    @override
    def __str__(self) -> str:
        return ", ".join(self.names)

    def note(self, name: str, *, restored: bool, computing: bool) -> None:
        """Take note of something that was changed."""
        self.names.append(name)
        if not restored:
            self.lost.append(name)
        self.computing = self.computing or computing


@contextmanager
def kept(changes: Changes | None = None, *, importing: bool = False) -> Iterator[Changes]:
    """A block after which the global state is what it was before, and that tells what it had to set back.

    The generators of random numbers are set back without a word, since most code draws from them.

    Args:
        changes: where to take note of what was set back, also if the block ends with an exception.
        importing: whether the block imports a plugin, and leaves what the libraries that it imports rely on.
    """
    changes = Changes() if changes is None else changes
    functions, generators = Functions(), Generators()
    before = _read([switch for switch in all_switches() if switch.importing or not importing])
    try:
        yield changes
    finally:
        for replaced in functions.put_back():
            changes.note(replaced.name, restored=replaced.restored, computing=True)
        for switch, value in before:
            _put_back(switch, value, changes)
        try:
            generators.put_back()
        # A GPU that code has broken answers nothing any more.
        except RuntimeError as error:
            changes.note(f"generators of random numbers ({error})", restored=False, computing=True)


def _read(switches: Iterable[Switch]) -> list[tuple[Switch, Any]]:
    """The values of the switches that can be read here."""
    found = []
    for switch in switches:
        # There are many builds of torch, and one that lacks a switch is no reason to run nothing.
        with suppress(Exception):
            found.append((switch, switch.read()))
    return found


def _put_back(switch: Switch, before: Any, changes: Changes) -> None:
    told, restored = "", False
    try:
        now = switch.read()
        if now == before:
            return
        told = switch.tell(before, now) if switch.tell else ""
        if switch.write is not None:
            switch.write(before)
            restored = switch.read() == before
    # Whatever keeps a switch from being set, the others are set back all the same.
    except Exception as error:
        told = f"{told}: {error}" if told else str(error)
    changes.note(f"{switch.name} ({told})" if told else switch.name, restored=restored, computing=switch.computing)
