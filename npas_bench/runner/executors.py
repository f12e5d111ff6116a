"""The interface of executors, and the executor that runs cells in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from typing_extensions import override

from npas_bench.errors import NpasBenchError
from npas_bench.runner.containment import Traces, TraceTeller, contained_cell
from npas_bench.runner.execution import execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npas_bench.runner.work import Attempt, Outcome, Work
    from npas_bench.training.loop import EpochReport


class Ended(NamedTuple):
    """Why an attempt ended that another one follows.

    Attributes:
        why: the reason in a few words.
        seconds: how long the attempt ran.
        share: the share of a GPU's memory that it had; None on a CPU.
        memory: bytes that it is known to have needed; None if nobody measured.
        alone: whether the next attempt has a GPU to itself.
    """

    why: str
    seconds: float
    share: float | None = None
    memory: int | None = None
    alone: bool = False

    def as_json(self) -> dict[str, Any]:
        """The entry that is stored with the run."""
        return {key: value for key, value in self._asdict().items() if value not in (None, False)}


class Listener(ABC):
    """The driver's side of an executor: it is told what happens, always in the driver's own thread, and asked."""

    @abstractmethod
    def started(self, work: Work) -> Attempt | None:
        """Begin an attempt; None if the work was cancelled or if another driver has it."""

    @abstractmethod
    def progressed(self, attempt: Attempt, report: EpochReport) -> None:
        """Take note that an epoch is over."""

    @abstractmethod
    def retried(self, attempt: Attempt, ended: Ended) -> None:
        """Take note that an attempt ended through no fault of the cell, and that another one will follow."""

    @abstractmethod
    def finished(self, attempt: Attempt, outcome: Outcome) -> None:
        """Take note that an attempt ended with an outcome."""

    @abstractmethod
    def dropped(self, attempt: Attempt) -> None:
        """Take note that an attempt was stopped because its cell is unwanted."""

    @abstractmethod
    def unwanted(self) -> set[str]:
        """The identities of started cells that were cancelled or taken over by another driver."""


class Executor(ABC):
    """Runs cells somewhere. It is a context manager that releases what it holds at the end of the block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run every one of `works` to its end, telling `listener` what happens."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Release workers and whatever else is held."""


class InlineExecutor(Executor):
    """Runs one cell after the other in this process. Deadlines and cancelling take effect when an epoch ends."""

    @override
    def run(self, works: Sequence[Work], listener: Listener) -> None:
        """Run the cells in order.

        Raises:
            NpasBenchError: if a plugin changed global state that cannot be set back, and cells would follow.
        """
        teller = TraceTeller()
        for number, work in enumerate(works, start=1):
            attempt = listener.started(work)
            if attempt is None:
                continue
            traces = _run_here(attempt, listener)
            teller.tell(traces)
            if traces.lost and number < len(works):
                raise NpasBenchError(
                    f"{traces}. The other cells would be computed with it: the same command goes on in a new process, "
                    "and with --executor ray every such cell gets a process of its own"
                )


def _run_here(attempt: Attempt, listener: Listener) -> Traces:
    """Run a cell in this process, and return what its plugins changed of the global state."""
    traces = Traces()
    try:
        with contained_cell(attempt.cell) as traces:
            outcome = execute(attempt, _teller(attempt, listener))
    except Unwanted:
        listener.dropped(attempt)
    else:
        listener.finished(attempt, outcome)
    return traces


class Unwanted(BaseException):
    """Ends an attempt from inside. It is not an Exception, so that nothing handles it as an error of the cell."""


def _teller(attempt: Attempt, listener: Listener) -> Callable[[EpochReport], None]:
    def tell(report: EpochReport) -> None:
        listener.progressed(attempt, report)
        if attempt.cell.identity in listener.unwanted():
            raise Unwanted

    return tell
