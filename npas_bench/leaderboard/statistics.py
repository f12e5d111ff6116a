"""The statistics of the board: intervals over seeds, and ranks that tell apart only what differs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

# Not scipy.stats, whose import takes longer than a board: these are the functions that its t distribution is made of.
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVEL = 0.95
_MIN_FOR_INTERVAL = 3


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % t-interval of the mean; None below three values."""
    if len(values) < _MIN_FOR_INTERVAL:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def ranks(results: Mapping[str, Mapping[int, float]], *, higher_is_better: bool) -> dict[str, int]:
    """One plus the number of methods that are significantly better.

    A method + seed model without interaction is fitted to the seeds that all ranked methods share; its
    pooled residual variance, with (methods - 1)(seeds - 1) degrees of freedom, is the scale of a t-test
    for every pair, and Holm's procedure keeps the familywise error at 5 %.

    Args:
        results: per method the value of each seed. Methods with fewer than two values are not ranked.
        higher_is_better: which way is up.

    Returns:
        A rank for each ranked method; empty if fewer than two methods share two seeds.
    """
    enough = {method: seeds for method, seeds in results.items() if len(seeds) > 1}
    shared = sorted(set.intersection(*(set(seeds) for seeds in enough.values()))) if enough else []
    if len(enough) < 2 or len(shared) < 2:
        return {}
    methods = sorted(enough)
    table = np.array([[enough[method][seed] for seed in shared] for method in methods])
    means = table.mean(axis=1)
    residual = table - means[:, None] - table.mean(axis=0)[None, :] + table.mean()
    freedom = (len(methods) - 1) * (len(shared) - 1)
    # Rounding leaves a residual of some 1e-16 where there is none.
    tiny = 1e-12 * max(1.0, float(np.abs(table).max()))
    error = max(math.sqrt(float((residual**2).sum()) / freedom * 2 / len(shared)), tiny)
    first, second = np.triu_indices(len(methods), 1)
    differences = means[first] - means[second]
    values = 2 * stdtr(freedom, -np.abs(differences) / error)
    better = np.zeros(len(methods), dtype=int)
    rejected = _rejected_by_holm(values)
    first_wins = (differences[rejected] > 0) == higher_is_better
    np.add.at(better, np.where(first_wins, second[rejected], first[rejected]), 1)
    return {method: 1 + int(count) for method, count in zip(methods, better, strict=True)}


def _rejected_by_holm(values: np.ndarray) -> np.ndarray:
    """Positions of the values that Holm's procedure rejects."""
    order = np.argsort(values, kind="stable")
    kept = values[order] > (1 - LEVEL) / (len(values) - np.arange(len(values)))
    return order[: np.argmax(kept)] if kept.any() else order
