"""Showing how a grid gets on: live on a terminal, as plain lines elsewhere, and in the run's log."""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from npas_bench.database.states import RunState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from npas_bench.cells.cell import Cell
    from npas_bench.runner.work import Outcome
    from npas_bench.training.loop import EpochReport


log = logging.getLogger(__name__)


class Reporter(ABC):
    """Told by the driver what happens; keeps count and guesses the time left.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = time.monotonic()
        self._left = 0
        self._before = 0
        self._counts = dict.fromkeys((RunState.DONE, RunState.UNSUPPORTED, RunState.FAILED, RunState.CANCELLED), 0)
        self._trained: dict[str, int] = {}
        self._resumed: dict[str, int] = {}
        self._running: dict[str, Cell] = {}

    def begin(self, left: int, before: int) -> None:
        """`left` cells are to run; `before` were finished earlier or left out."""
        self._begun, self._left, self._before = time.monotonic(), left, before
        log.info("%d cells to run, %d finished before or left out", left, before)
        self._on_begin()

    def started(self, cell: Cell) -> None:
        """An attempt at a cell begins."""
        self._running[cell.identity] = cell
        log.info("started %s", cell)
        self._on_change()

    def progressed(self, cell: Cell, report: EpochReport) -> None:
        """A cell has trained an epoch."""
        # What an earlier attempt trained took none of this session's time.
        self._resumed.setdefault(cell.identity, report.epoch - 1)
        self._trained[cell.identity] = report.epoch
        self._on_change()

    def finished(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""
        self._running.pop(cell.identity, None)
        self._counts[outcome.state] += 1
        log.info("%s", _describe(cell, outcome))
        if outcome.detail:
            log.info("%s", outcome.detail)
        self._on_finished(cell, outcome)
        self._on_change()

    def dropped(self, cell: Cell) -> None:
        """A cell was stopped: cancelled, or taken over by another driver."""
        log.info("stopped %s: cancelled, or another driver has it", cell)
        self._running.pop(cell.identity, None)
        self._on_change()

    def settled(self, cell: Cell, state: RunState) -> None:
        """A cell that another driver had is over."""
        log.info("%s, elsewhere: %s", state, cell)
        self._counts[state if state in self._counts else RunState.CANCELLED] += 1
        self._on_settled(cell, state)
        self._on_change()

    def end(self) -> None:
        """Nothing more will happen."""
        log.info("%s", self._summary())
        self._on_end()

    @abstractmethod
    def _on_begin(self) -> None: ...

    @abstractmethod
    def _on_change(self) -> None: ...

    @abstractmethod
    def _on_finished(self, cell: Cell, outcome: Outcome) -> None: ...

    @abstractmethod
    def _on_settled(self, cell: Cell, state: RunState) -> None: ...

    @abstractmethod
    def _on_end(self) -> None: ...

    @property
    def _ended(self) -> int:
        return sum(self._counts.values())

    def _share(self, cell: Cell) -> float:
        return self._trained.get(cell.identity, 0) / cell.recipe.epochs

    def _seconds_left(self) -> float | None:
        trained = sum(
            self._share(cell) - self._resumed.get(cell.identity, 0) / cell.recipe.epochs
            for cell in self._running.values()
        )
        achieved = self._counts[RunState.DONE] + self._counts[RunState.FAILED] + trained
        if achieved <= 0:
            return None
        remaining = self._left - self._ended - sum(map(self._share, self._running.values()))
        return max(0.0, remaining) * (time.monotonic() - self._begun) / achieved

    def _summary(self) -> str:
        parts = [f"{self._ended}/{self._left} cells"]
        parts += [f"{count} {state}" for state, count in self._counts.items() if count]
        if self._running:
            parts.append(f"{len(self._running)} running")
        left = self._seconds_left()
        elapsed = time.monotonic() - self._begun
        if self._running and self._ended and elapsed > 1:
            parts.append(format_rate(self._ended / elapsed))
        if left is not None and self._ended < self._left:
            parts.append(f"{format_seconds(left)} left")
        return " · ".join(parts)


class LiveReporter(Reporter):
    """A bar, the counts and a line for each running cell, redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._draw)

    def _on_begin(self) -> None:
        if self._left:
            self._live.start()
            _redirect_warnings()

    def _on_change(self) -> None:
        pass  # redrawn by itself

    def _on_finished(self, cell: Cell, outcome: Outcome) -> None:
        if outcome.state == RunState.FAILED:
            self.console.print(Text(f"failed: {cell}: {outcome.message}", style="red"))

    def _on_settled(self, cell: Cell, state: RunState) -> None:
        pass  # it is counted

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
    """One line for each cell that ended."""

    def _on_begin(self) -> None:
        if self._left:
            before = f", {self._before} finished before" if self._before else ""
            self._print(f"{self._left} cells to run{before}")

    def _on_change(self) -> None:
        pass

    def _on_finished(self, cell: Cell, outcome: Outcome) -> None:
        line = f"[{self._ended}/{self._left}] {_describe(cell, outcome)}"
        left = self._seconds_left()
        if left is not None and self._ended < self._left:
            line += f" · {format_seconds(left)} left"
        self._print(line)

    def _on_settled(self, cell: Cell, state: RunState) -> None:
        elsewhere = "" if state == RunState.CANCELLED else ", by another driver"
        self._print(f"[{self._ended}/{self._left}] {state} {cell}{elsewhere}")

    def _on_end(self) -> None:
        if self._left:
            self._print(f"{self._summary()} in {format_seconds(time.monotonic() - self._begun)}")

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)


def _redirect_warnings() -> None:
    """Let warnings go to what stands for standard error now: above a live display, not into it."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)


def _describe(cell: Cell, outcome: Outcome) -> str:
    line = f"{outcome.state} {cell}"
    if outcome.metrics:
        primary = outcome.metrics[0]
        line += f" · {primary.name} {primary.value:.2f}{f' {primary.unit}' if primary.unit else ''}"
    if outcome.cost:
        line += f" · {format_seconds(outcome.cost.train_seconds)}"
    if outcome.message:
        line += f": {outcome.message}"
    return line


def reporter_for(console: Console) -> Reporter:
    """A live display on a terminal, plain lines elsewhere."""
    return LiveReporter(console) if console.is_terminal and not console.is_dumb_terminal else PlainReporter(console)


def format_rate(per_second: float) -> str:
    """A throughput a person reads: `14 cells/min`, `2.5 cells/h`."""
    per_minute = 60 * per_second
    return f"{per_minute:.3g} cells/min" if per_minute >= 1 else f"{60 * per_minute:.2g} cells/h"


def format_seconds(seconds: float) -> str:
    """A duration a person reads: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
