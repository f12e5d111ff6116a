"""Containing the code of third-party plugins: what it changes of the global state is set back after each use.

Built-in code is known to leave the global state alone, which tests hold, and runs as it is.
"""

from __future__ import annotations

import logging
import random
import sys
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from typing_extensions import override

from npas_bench import plugins
from npas_bench.global_state.keeping import Changes, kept
from npas_bench.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npas_bench.cells.cell import Cell

log = logging.getLogger(__name__)


@dataclass
class Traces:
    """What the code of plugins left behind; it is empty until that code has ended, and where it left nothing.

    Attributes:
        whose: the plugins, as messages name them.
        changed: the parts of the global state that they changed, as messages name them.
        lost: those of the parts that could not be set back.
        computing: whether the results of other cells depend on any of it.
    """

    whose: str = ""
    changed: str = ""
    lost: str = ""
    computing: bool = False

    @override
    def __str__(self) -> str:
        said = f"{self.whose} changed global state: {self.changed}. It was set back, so that no other cell is affected"
        return f"{said}, except for {self.lost}, which cannot be" if self.lost else said


class TraceTeller:
    """Tells of traces in the log: of those that matter to other cells as a warning, but once for the same plugin."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, traces: Traces, remedy: str = "") -> None:
        """Tell of traces, with what is done about those that matter."""
        if not traces.changed:
            return
        said = f"{traces}{remedy if traces.computing else ''}"
        matters = (traces.computing or bool(traces.lost)) and said not in self._told
        self._told.add(said)
        log.log(logging.WARNING if matters else logging.INFO, "%s", said)


_IN_DRIVER = TraceTeller()


@contextmanager
def contained(task: str, architecture: str, method: str, seed: str | None = None) -> Iterator[Traces]:
    """A block that runs the code of a task, an architecture and a method, and leaves the global state as it was.

    Args:
        task: name of the task.
        architecture: name of the architecture.
        method: name of the method.
        seed: a text that the generators which all code shares are seeded from; None leaves them as they are.
    """
    traces = Traces()
    foreign = plugins.third_party(task, architecture, method)
    if not foreign:
        yield traces
        return
    changes = Changes()
    try:
        with kept(changes):
            if seed is not None:
                _seed_generators(derive_seed("shared generators", seed))
            yield traces
    finally:
        traces.whose, traces.changed = " or ".join(foreign), str(changes)
        traces.lost, traces.computing = ", ".join(changes.lost), changes.computing


@contextmanager
def contained_cell(cell: Cell) -> Iterator[Traces]:
    """A block that runs a cell; what its plugins draw from shared generators depends on the cell alone."""
    with contained(cell.task, cell.architecture, cell.method, cell.identity) as traces:
        yield traces


@contextmanager
def contained_here(task: str, architecture: str, method: str) -> Iterator[None]:
    """A block that previews a cell in the driver; it is told at its end what plugins changed.

    What plugins print goes to standard error, since standard output belongs to the command.

    Raises:
        PluginError: if a plugin tries to end the program.
    """
    traces = Traces()
    try:
        with (
            redirect_stdout(sys.stderr),
            contained(task, architecture, method) as traces,
            plugins.kept_from_exiting(task, architecture, method),
        ):
            yield
    finally:
        _IN_DRIVER.tell(traces)


@contextmanager
def contained_planning() -> Iterator[None]:
    """A block that turns grids into cells, for which plugins are imported and asked for sizes and data.

    What they print goes to standard error, since standard output belongs to the command.
    """
    foreign = plugins.third_party_distributions()
    if not foreign:
        yield
        return
    plugins.import_built_in()
    changes = Changes()
    try:
        with redirect_stdout(sys.stderr), kept(changes, importing=True):
            yield
    finally:
        whose = f"while cells were planned, a plugin of {' or '.join(foreign)}"
        _IN_DRIVER.tell(Traces(whose, str(changes), ", ".join(changes.lost), changes.computing))


def _seed_generators(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
