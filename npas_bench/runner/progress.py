"""How a grid gets on: what has ended, what is left and how long it will take, kept for whoever shows it, and logged."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from typing_extensions import override

from npas_bench.database.states import RunState
from npas_bench.leaderboard.texts import number_text

if TYPE_CHECKING:
    from npas_bench.cells.cell import Cell
    from npas_bench.runner.work import Outcome
    from npas_bench.training.loop import EpochReport


log = logging.getLogger(__name__)


class Reporter(ABC):
    """What the driver tells what happens: it counts, guesses the time left and writes to the log.

    Classes that derive from it show all this to people.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._left = 0
        self._before = 0
        self._counts = dict.fromkeys((RunState.DONE, RunState.UNSUPPORTED, RunState.FAILED, RunState.CANCELLED), 0)
        self._trained: dict[str, int] = {}
        self._resumed: dict[str, int] = {}
        self._running: dict[str, Cell] = {}

    def begin(self, left: int, before: int) -> None:
        """Take note that the work begins.

        Args:
            left: how many cells are to run.
            before: how many were finished earlier or are left out.
        """
        self._begun, self._left, self._before = time.monotonic(), left, before
        log.info("%d cells to run, %d finished before or left out", left, before)
        self._on_begin()

    def started(self, cell: Cell) -> None:
        """Take note that an attempt at a cell begins."""
        self._running[cell.identity] = cell
        log.info("started %s", cell)
        self._on_change()

    def progressed(self, cell: Cell, report: EpochReport) -> None:
        """Take note that a cell has trained an epoch."""
        # What an earlier attempt trained took none of this session's time.
        self._resumed.setdefault(cell.identity, report.epoch - 1)
        self._trained[cell.identity] = report.epoch
        self._on_change()

    def finished(self, cell: Cell, outcome: Outcome, run: int) -> None:
        """Take note that a cell has ended.

        Args:
            cell: the cell.
            outcome: how it ended.
            run: number of its run in the database.
        """
        self._running.pop(cell.identity, None)
        self._counts[outcome.state] += 1
        log.info("run %d: %s", run, describe(cell, outcome))
        if outcome.detail:
            log.info("%s", outcome.detail)
        self._on_finished(cell, outcome, run)
        self._on_change()

    def dropped(self, cell: Cell) -> None:
        """Take note that a cell was stopped: it was cancelled, or another driver took it over."""
        log.info("stopped %s: cancelled, or another driver has it", cell)
        self._running.pop(cell.identity, None)
        self._on_change()

    def settled(self, cell: Cell, state: RunState) -> None:
        """Take note that a cell that another driver had has ended."""
        log.info("%s, elsewhere: %s", state, cell)
        self._counts[state if state in self._counts else RunState.CANCELLED] += 1
        self._on_settled(cell, state)
        self._on_change()

    def end(self) -> None:
        """Take note that nothing more will happen."""
        log.info("%s", self._summary())
        self._on_end()

    @abstractmethod
    def _on_begin(self) -> None: ...

    @abstractmethod
    def _on_change(self) -> None: ...

    @abstractmethod
    def _on_finished(self, cell: Cell, outcome: Outcome, run: int) -> None: ...

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


class QuietReporter(Reporter):
    """Shows nothing; the log tells what happens all the same."""

    @override
    def _on_begin(self) -> None:
        pass

    @override
    def _on_change(self) -> None:
        pass

    @override
    def _on_finished(self, cell: Cell, outcome: Outcome, run: int) -> None:
        pass

    @override
    def _on_settled(self, cell: Cell, state: RunState) -> None:
        pass

    @override
    def _on_end(self) -> None:
        pass


def describe(cell: Cell, outcome: Outcome) -> str:
    """How a cell ended, in one line."""
    line = f"{outcome.state} {cell}"
    if outcome.metrics:
        primary = outcome.metrics[0]
        unit = f" {primary.unit}" if primary.unit else ""
        line += f" · {primary.name} {number_text(primary.value, primary.unit)}{unit}"
    if outcome.cost:
        line += f" · {format_seconds(outcome.cost.train_seconds)}"
    if outcome.message:
        line += f": {outcome.message}"
    return line


def format_rate(per_second: float) -> str:
    """A throughput in words: `14 cells/min`, `2.5 cells/h`."""
    per_minute = 60 * per_second
    return f"{per_minute:.3g} cells/min" if per_minute >= 1 else f"{60 * per_minute:.2g} cells/h"


def format_seconds(seconds: float) -> str:
    """A duration in words: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
