"""What an executor is, and the one that runs cells in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from npas_bench.runner.execution import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npas_bench.runner.work import Outcome, Work
    from npas_bench.training.loop import EpochReport


class Listener(ABC):
    """What an executor tells the driver, always in the driver's own thread."""

    @abstractmethod
    def started(self, work: Work) -> Work:
        """An attempt at this work begins; the answer is the work under the new attempt's token."""

    @abstractmethod
    def progressed(self, work: Work, report: EpochReport) -> None:
        """An epoch of it is over."""

    @abstractmethod
    def finished(self, work: Work, outcome: Outcome) -> None:
        """It ended."""


class Executor(ABC):
    """Runs cells somewhere."""

    @abstractmethod
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run every one of `works` to its end, telling `listener` what happens."""


class InlineExecutor(Executor):
    """One cell after the other in this process."""

    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run them in order."""
        for planned in works:
            work = listener.started(planned)
            listener.finished(work, execute(work, partial(listener.progressed, work)))
