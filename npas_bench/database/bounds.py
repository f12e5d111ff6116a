"""The numbers that a run can have: what an import takes, and what readers believe of older databases.

The bounds are far beyond every real run, and far within what a floating-point number can hold, so that sums, squares
and quotients of what lies between them are finite.
"""

from __future__ import annotations

from typing import Any

# Values of metrics, losses and coefficients, by their absolute value.
LARGEST_VALUE = 1e100
# Seconds: a billionth of a second, and three hundred years. What took no time at all is fine, too.
SHORTEST, LONGEST = 1e-9, 1e10
# Trainable scalars, as `npas_bench.budget` bounds them, which imports torch.
MOST_SCALARS = 2**62
# Bytes: an exbibyte.
MOST_BYTES = 2**60
# Floating-point operations of one example.
MOST_OPERATIONS = 2**62


def believable_seconds(value: Any) -> float | None:
    """A stored duration in seconds; None where there is none, or none that a run can have taken."""
    number = _number(value)
    return number if number is not None and (number == 0 or SHORTEST <= number <= LONGEST) else None


def believable_bytes(value: Any) -> int | None:
    """A stored number of bytes; None where there is none, or none that a machine has."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= MOST_BYTES else None


def believable_operations(value: Any) -> float | None:
    """A stored number of floating-point operations; None where there is none, or none that a network needs."""
    number = _number(value)
    return number if number is not None and 0 <= number <= MOST_OPERATIONS else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
