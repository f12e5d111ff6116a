"""The states of a run, and who moves a run from one to the next."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """What has become of a run.

    A state changes in the following ways only. The functions stand in `runs` and `drivers`.

    | function     | moves a run from                         | to                        |
    |--------------|------------------------------------------|---------------------------|
    | add_runs     | (new)                                    | pending                   |
    | claim_run    | pending, stale, running (its own driver) | running                   |
    | finish_run   | running, stale                           | done, failed, unsupported |
    | release_runs | running, stale                           | pending                   |
    | leave        | running, stale                           | pending                   |
    | reap         | running                                  | stale                     |
    | beat         | stale                                    | running                   |
    | cancel_runs  | pending, running, stale                  | cancelled                 |
    | reopen_runs  | cancelled                                | pending                   |

    A run in one of the states done, failed and unsupported never leaves it. A run that is imported from elsewhere
    begins in one of these three; a record of a later attempt may replace it.

    Attributes:
        PENDING: The run waits for a driver.
        RUNNING: A driver has claimed the run.
        STALE: The driver that had claimed the run is dead, and another driver may go on with it.
        CANCELLED: A user does not want the run. Running its cell again reopens it.
        DONE: The training came to its end, and the metrics are stored.
        FAILED: Something went wrong. Running the cell again makes a new run.
        UNSUPPORTED: The method cannot meet the budget, which is a result.
    """

    PENDING = "pending"
    RUNNING = "running"
    STALE = "stale"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"

    @property
    def ended(self) -> bool:
        """Tell whether nothing will move the run to another state."""
        return self in _ENDED

    @property
    def open(self) -> bool:
        """Tell whether the run may still get on; a cell has at most one open run for its data and device class."""
        return self not in _ENDED

    @property
    def final(self) -> bool:
        """Tell whether the run answers its cell, so that the cell is not run again."""
        return self in (RunState.DONE, RunState.UNSUPPORTED)

    @property
    def claimable(self) -> bool:
        """Tell whether any driver may claim the run."""
        return self in (RunState.PENDING, RunState.STALE)

    @property
    def under_way(self) -> bool:
        """Tell whether an attempt has begun that may yet finish: a stale run's driver may turn out to be alive."""
        return self in (RunState.RUNNING, RunState.STALE)

    @property
    def cancellable(self) -> bool:
        """Tell whether a user may cancel the run."""
        return self.claimable or self.under_way

    @property
    def lively(self) -> bool:
        """Tell whether a driver is at the run, or will be without anybody's doing."""
        return self in (RunState.PENDING, RunState.RUNNING)


_ENDED = frozenset({RunState.DONE, RunState.FAILED, RunState.UNSUPPORTED})

# For conditions in SQL, in the order in which the states are defined.
ENDED = tuple(state for state in RunState if state.ended)
UNDER_WAY = tuple(state for state in RunState if state.under_way)
CANCELLABLE = tuple(state for state in RunState if state.cancellable)
