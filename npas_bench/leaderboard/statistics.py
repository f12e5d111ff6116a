"""The statistics of the board: intervals over seeds, paired differences, and ranks by significant differences."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

# scipy.stats would take longer to import than a board takes to make; its t distribution is made of these functions.
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVEL = 0.95
MIN_FOR_INTERVAL = 3
# Rounding turns differences of zero into some of about 1e-16.
_ROUNDING = 1e-12
# If methods have more different sets of seeds than this, the two commonest seeds are taken.
_MOST_SEED_SETS = 100


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % t-interval of the mean; None below three values."""
    if len(values) < MIN_FOR_INTERVAL:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


class Difference(NamedTuple):
    """The mean difference of paired values.

    Attributes:
        mean: the mean of first minus second.
        half_width: half the width of the mean's 95 % t-interval; None below three pairs.
        pairs: how many pairs of values there are.
        p: the p-value of the two-sided paired t-test; None below two pairs.
    """

    mean: float
    half_width: float | None
    pairs: int
    p: float | None


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The mean difference over the seeds that both have; None if they share no seed."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    mean = math.fsum(differences) / len(seeds)
    return Difference(mean, half_width(differences), len(seeds), _p_of_mean(differences, [*first.values()]))


def _p_of_mean(differences: Sequence[float], scale: Sequence[float]) -> float | None:
    """The two-sided p-value of the t-test that the mean is zero; None below two values."""
    if len(differences) < 2:
        return None
    tiny = _ROUNDING * max(1.0, *(abs(value) for value in scale))
    error = max(float(np.std(differences, ddof=1)) / math.sqrt(len(differences)), tiny)
    mean = math.fsum(differences) / len(differences)
    if abs(mean) <= tiny:
        return 1.0
    return 2 * float(stdtr(len(differences) - 1, -abs(mean) / error))


def rejected_by_holm(values: Sequence[float]) -> list[bool]:
    """Tell for each p-value whether Holm's procedure rejects its hypothesis at a familywise error rate of 5 %."""
    rejected = [False] * len(values)
    for count, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[place] > (1 - LEVEL) / (len(values) - count):
            break
        rejected[place] = True
    return rejected


def ranks(results: Mapping[str, Mapping[int, float]], *, higher_is_better: bool) -> dict[str, int]:
    """Rank methods: a method's rank is one plus the number of methods that are significantly better.

    An additive model of method and seed, without interaction, is fitted to the seeds that all ranked methods share.
    Its pooled residual variance, with (methods - 1)(seeds - 1) degrees of freedom, is the variance in a t-test for
    every pair of methods. Holm's procedure keeps the familywise error rate at 5 %.

    Args:
        results: the value of each seed, for each method. Methods with fewer than two values are not ranked. If the
            methods do not share two seeds, neither are those without which the others do.
        higher_is_better: whether higher values are better.

    Returns:
        The rank of each ranked method; empty if no two methods share two seeds.
    """
    enough = {method: seeds for method, seeds in results.items() if len(seeds) > 1}
    shared = _shared_seeds(enough)
    methods = sorted(method for method, seeds in enough.items() if shared <= seeds.keys())
    if len(methods) < 2 or len(shared) < 2:
        return {}
    table = np.array([[enough[method][seed] for seed in sorted(shared)] for method in methods])
    means = table.mean(axis=1)
    residual = table - means[:, None] - table.mean(axis=0)[None, :] + table.mean()
    freedom = (len(methods) - 1) * (len(shared) - 1)
    tiny = _ROUNDING * max(1.0, float(np.abs(table).max()))
    error = max(math.sqrt(float((residual**2).sum()) / freedom * 2 / len(shared)), tiny)
    merits = means if higher_is_better else -means
    rising = np.sort(merits)
    margin = _significant_margin(rising, error, freedom)
    better = len(methods) - np.searchsorted(rising, merits + margin, side="left")
    return {method: 1 + int(count) for method, count in zip(methods, better, strict=True)}


def _shared_seeds(results: Mapping[str, Mapping[int, float]]) -> set[int]:
    """The seeds that all methods share.

    Where they do not share two, methods are left out until the others do, first those without which most seeds are
    shared.
    """
    counts = Counter(frozenset(seeds) for seeds in results.values())
    while counts:
        shared = set(frozenset.intersection(*counts))
        if len(shared) > 1 or len(counts) == 1:
            return shared
        if len(counts) > _MOST_SEED_SETS:
            often = Counter(seed for seeds, count in counts.items() for seed in seeds for _ in range(count))
            first, second = sorted(often, key=lambda seed: (-often[seed], seed))[:2]
            return {first, second}

        def without(seeds: frozenset[int]) -> tuple[int, int, list[int]]:
            others = frozenset.intersection(*(other for other in counts if other != seeds))
            return len(others), -counts[seeds], sorted(seeds)

        del counts[max(counts, key=without)]
    return set()


def _significant_margin(rising: np.ndarray, error: float, freedom: int) -> float:
    """The smallest difference of two means that Holm's procedure finds significant.

    All differences have the same standard error, so p-values fall as differences grow, and the procedure rejects
    exactly those pairs that are at least some difference apart. This difference is found without listing the pairs,
    of which ten thousand methods have fifty million.

    Args:
        rising: the methods' means, in rising order.
        error: the standard error of every difference.
        freedom: the degrees of freedom of this standard error.
    """
    pairs = len(rising) * (len(rising) - 1) // 2
    rejected = 0
    while True:
        # The level of the step that follows this many rejections, in one tail.
        level = (1 - LEVEL) / (pairs - rejected) / 2 if rejected < pairs else (1 - LEVEL) / 2
        margin = -float(stdtrit(freedom, level)) * error
        beyond = int((len(rising) - np.searchsorted(rising, rising + margin, side="left")).sum())
        if beyond <= rejected or rejected >= pairs:
            return margin
        rejected = beyond
