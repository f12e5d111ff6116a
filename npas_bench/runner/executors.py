"""What an executor is, and the one that runs cells in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from typing_extensions import override

from npas_bench.runner.execution import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.runner.work import Attempt, Outcome, Work
    from npas_bench.training.loop import EpochReport


class Ended(NamedTuple):
    """How an attempt ended that was not the last word on its cell, or why the last one ran as it did.

    Attributes:
        why: in a few words.
        seconds: that it ran for.
        share: of a GPU's memory that it had; None on a CPU.
        memory: bytes it is known to have needed; None where nobody measured.
        alone: whether the next attempt has a GPU to itself.
    """

    why: str
    seconds: float
    share: float | None = None
    memory: int | None = None
    alone: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it is stored with the run."""
        return {key: value for key, value in self._asdict().items() if value not in (None, False)}


class Listener(ABC):
    """What an executor tells the driver, always in the driver's own thread, and asks it."""

    @abstractmethod
    def started(self, work: Work) -> Attempt | None:
        """Begin an attempt; None if the work is not to be had, being cancelled or with another driver."""

    @abstractmethod
    def progressed(self, attempt: Attempt, report: EpochReport) -> None:
        """An epoch of it is over."""

    @abstractmethod
    def retried(self, attempt: Attempt, ended: Ended) -> None:
        """An attempt ended through no fault of the cell's, and another one will follow."""

    @abstractmethod
    def finished(self, attempt: Attempt, outcome: Outcome) -> None:
        """It ended."""

    @abstractmethod
    def dropped(self, attempt: Attempt) -> None:
        """It was stopped because it is unwanted."""

    @abstractmethod
    def unwanted(self) -> set[str]:
        """Identities of started cells that were cancelled, or taken over by another driver."""


class Executor(ABC):
    """Runs cells somewhere. A context: what it holds is let go at the block's end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run every one of `works` to its end, telling `listener` what happens."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of workers and whatever else is held."""


class InlineExecutor(Executor):
    """One cell after the other in this process. Deadlines and cancelling take effect when an epoch ends."""

    @override
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run them in order."""
        for work in works:
            attempt = listener.started(work)
            if attempt is None:
                continue
            try:
                outcome = execute(attempt, _teller(attempt, listener))
            except Unwanted:
                listener.dropped(attempt)
            else:
                listener.finished(attempt, outcome)


class Unwanted(BaseException):
    """Ends an attempt from inside; no error of the cell's, which is why nothing that handles these handles it."""


def _teller(attempt: Attempt, listener: Listener) -> Callable[[EpochReport], None]:
    def tell(report: EpochReport) -> None:
        listener.progressed(attempt, report)
        if attempt.cell.identity in listener.unwanted():
            raise Unwanted

    return tell
