"""The package's own errors. Each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable


class NpasBenchError(Exception):
    """Base class of all errors that a user can mend; the command line prints the message and exits with 2."""


class BudgetError(NpasBenchError):
    """A budget that is not a positive number of parameters."""


class OverBudget(NpasBenchError):
    """A network with more trainable scalars than its budget, which is a bug of its method; it is never trained."""


class DeadParameters(NpasBenchError):
    """Trained scalars that reach no layer's weight, where the method does not say why."""


class UncountedValues(NpasBenchError):
    """Numbers that training changes and that are neither parameters nor buffers, so that nothing counts them."""


class UnsupportedBudget(NpasBenchError):
    """A budget that a method cannot meet: a result of the benchmark, not a failure.

    Args:
        reason: why the budget cannot be met, as a clause that can follow a colon.
        smallest: the smallest budget (trainable scalars) the method can meet, where there is one.
        largest: the largest budget (trainable scalars) the method can use, where there is one.
    """

    def __init__(self, reason: str, *, smallest: int | None = None, largest: int | None = None) -> None:
        self.reason = reason
        self.smallest = smallest
        self.largest = largest
        super().__init__(reason, smallest, largest)

    @override
    def __str__(self) -> str:
        bounds = []
        if self.smallest is not None:
            bounds.append(f"smallest possible: {self.smallest:,}")
        if self.largest is not None:
            bounds.append(f"largest possible: {self.largest:,}")
        return f"{self.reason} ({'; '.join(bounds)})" if bounds else self.reason


class OptionError(NpasBenchError):
    """An option that a method does not have, or a value that the option does not take."""


class RecipeError(NpasBenchError):
    """A value that a field of a recipe does not take, or fields of a recipe that do not fit each other."""


class UnknownName(NpasBenchError):
    """A name that nothing is registered under; the message offers the nearest known names.

    Args:
        kind: what the name should name, as `method`.
        name: the unknown name.
        known: all known names.
        remedy: what would show more, in a few words.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, remedy: str = "") -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        super().__init__(f"unknown {kind} '{name}': {hint}{f' ({remedy})' if remedy else ''}")


class SignatureError(NpasBenchError):
    """A signature that an architecture does not accept, or one that describes no possible input."""


class PluginError(NpasBenchError):
    """A plugin that cannot be imported, or that is not what its entry point promises."""


class GridError(NpasBenchError):
    """A grid file that is malformed; the message names the place in the file."""


class DataError(NpasBenchError):
    """A data folder that is missing or damaged; the message names the file and the remedy."""


class DatabaseError(NpasBenchError):
    """A database that cannot be reached, read or understood."""


class DeviceError(NpasBenchError):
    """A device that this machine does not have."""


class StorageError(NpasBenchError):
    """A disk that cannot be written to. It is no cell's failure: the whole command ends and can be resumed later."""


class CheckpointError(NpasBenchError):
    """A checkpoint that does not belong to the run, or that does not hold what the ledger counted."""


class WeightsError(NpasBenchError):
    """A file of weights that is missing or damaged, or that belongs to another run."""


class RecordError(NpasBenchError):
    """A recorded cell or run that this installation cannot run again; the message says what would be needed."""


class Diverged(Exception):
    """A loss or a metric that became NaN or infinite. The run fails, and its history is kept.

    Args:
        where: where it happened, as `at epoch 3, step 12` or `in error@1`.
        history: an entry for each epoch before.
    """

    def __init__(self, where: str, history: list[dict[str, Any]]) -> None:
        self.history = history
        super().__init__(f"diverged {where}")
