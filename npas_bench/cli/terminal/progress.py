"""How a grid gets on: live on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from npas_bench.database.states import RunState
from npas_bench.runner.progress import Reporter, describe, format_seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from npas_bench.cells.cell import Cell
    from npas_bench.runner.work import Outcome


class LiveReporter(Reporter):
    """A bar, the counts and a line for each running cell, redrawn in place.

    Args:
        console: the terminal to draw on.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._draw)

    @override
    def _on_begin(self) -> None:
        if self._left:
            self._live.start()
            _redirect_warnings()

    @override
    def _on_change(self) -> None:
        pass  # redrawn by itself

    @override
    def _on_finished(self, cell: Cell, outcome: Outcome, run: int) -> None:
        if outcome.state == RunState.FAILED:
            self.console.print(f"run {run} failed: {cell}: {outcome.message}", style="red")

    @override
    def _on_settled(self, cell: Cell, state: RunState) -> None:
        pass  # it is counted

    @override
    def _on_end(self) -> None:
        self._live.stop()
        _redirect_warnings()
        if self._left:
            self.console.print(f"{self._summary()} in {format_seconds(time.monotonic() - self._begun)}")

    def _draw(self) -> RenderableType:
        running = list(self._running.values())
        lines = Table.grid(padding=(0, 1))
        lines.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        lines.add_column(justify="right", no_wrap=True)
        for cell in running:
            epochs = f"epoch {self._trained.get(cell.identity, 0)}/{cell.recipe.epochs}"
            lines.add_row(Text(f"  {cell}"), epochs)
        done = self._ended + sum(map(self._share, running))
        frame = Table.grid(expand=True)
        frame.add_row(ProgressBar(total=max(1, self._left), completed=done))
        frame.add_row(self._summary())
        frame.add_row(lines)
        return frame


class PlainReporter(Reporter):
    """One line for each cell that ended.

    Args:
        console: where to print the lines.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    @override
    def _on_begin(self) -> None:
        if self._left:
            before = f", {self._before} finished before" if self._before else ""
            self._print(f"{self._left} cells to run{before}")

    @override
    def _on_change(self) -> None:
        pass

    @override
    def _on_finished(self, cell: Cell, outcome: Outcome, run: int) -> None:
        number = f"run {run} " if outcome.state == RunState.FAILED else ""
        line = f"[{self._ended}/{self._left}] {number}{describe(cell, outcome)}"
        left = self._seconds_left()
        if left is not None and self._ended < self._left:
            line += f" · {format_seconds(left)} left"
        self._print(line)

    @override
    def _on_settled(self, cell: Cell, state: RunState) -> None:
        elsewhere = "" if state == RunState.CANCELLED else ", by another driver"
        self._print(f"[{self._ended}/{self._left}] {state} {cell}{elsewhere}")

    @override
    def _on_end(self) -> None:
        if self._left:
            self._print(f"{self._summary()} in {format_seconds(time.monotonic() - self._begun)}")

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, highlight=False)


def _redirect_warnings() -> None:
    """Let warnings go to the present standard error: while a live display runs, that puts them above it."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)


def reporter_for(console: Console) -> Reporter:
    """A live display on a terminal, plain lines elsewhere."""
    return LiveReporter(console) if console.is_terminal and not console.is_dumb_terminal else PlainReporter(console)
