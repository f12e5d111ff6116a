"""The statistics of the board: intervals over seeds, paired differences, ranks that tell apart only what differs."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

# Not scipy.stats, whose import takes longer than a board: these are the functions that its t distribution is made of.
from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEVEL = 0.95
MIN_FOR_INTERVAL = 3
# Rounding leaves differences of some 1e-16 where there are none.
_ROUNDING = 1e-12
# Of more different sets of seeds, the two commonest seeds are taken.
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
        mean: of first minus second.
        half_width: of its 95 % t-interval; None below three pairs.
        pairs: how many.
        p: of the two-sided paired t-test; None below two pairs.
    """

    mean: float
    half_width: float | None
    pairs: int
    p: float | None


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The mean difference over the seeds that both have; None where they share none."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    mean = math.fsum(differences) / len(seeds)
    return Difference(mean, half_width(differences), len(seeds), _p_of_mean(differences, [*first.values()]))


def _p_of_mean(differences: Sequence[float], scale: Sequence[float]) -> float | None:
    """Of the t-test of a mean of zero."""
    if len(differences) < 2:
        return None
    tiny = _ROUNDING * max(1.0, *(abs(value) for value in scale))
    error = max(float(np.std(differences, ddof=1)) / math.sqrt(len(differences)), tiny)
    mean = math.fsum(differences) / len(differences)
    if abs(mean) <= tiny:
        return 1.0
    return 2 * float(stdtr(len(differences) - 1, -abs(mean) / error))


def rejected_by_holm(values: Sequence[float]) -> list[bool]:
    """Which of the p-values Holm's procedure rejects, at a familywise error of 5 %."""
    rejected = [False] * len(values)
    for count, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[place] > (1 - LEVEL) / (len(values) - count):
            break
        rejected[place] = True
    return rejected


def ranks(results: Mapping[str, Mapping[int, float]], *, higher_is_better: bool) -> dict[str, int]:
    """One plus the number of methods that are significantly better.

    A method + seed model without interaction is fitted to the seeds that all ranked methods share; its
    pooled residual variance, with (methods - 1)(seeds - 1) degrees of freedom, is the scale of a t-test
    for every pair, and Holm's procedure keeps the familywise error at 5 %.

    Args:
        results: per method the value of each seed. Methods with fewer than two values are not ranked, nor are those
            that stand in the way of two seeds that the others share.
        higher_is_better: which way is up.

    Returns:
        A rank for each ranked method; empty if no two methods share two seeds.
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
    """The seeds that all methods share; of as many methods as share two, where not all do."""
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
    """From which difference on Holm's procedure tells two methods apart, all pairs being tested at one scale.

    Pairs are never listed, of which ten thousand methods have fifty million: the p-values fall as differences grow,
    so that what is rejected is all pairs from some difference on.

    Args:
        rising: the methods' means, sorted.
        error: standard error of every difference.
        freedom: its degrees of freedom.
    """
    pairs = len(rising) * (len(rising) - 1) // 2
    rejected = 0
    while True:
        # The quantile of the step that comes after as many rejections.
        level = (1 - LEVEL) / (pairs - rejected) / 2 if rejected < pairs else (1 - LEVEL) / 2
        margin = -float(stdtrit(freedom, level)) * error
        beyond = int((len(rising) - np.searchsorted(rising, rising + margin, side="left")).sum())
        if beyond <= rejected or rejected >= pairs:
            return margin
        rejected = beyond
