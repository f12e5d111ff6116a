"""The frontier: how a method's metric changes with the budget, as one number and as the parameters it saves.

The metric of a method is plotted over the logarithm of the budget. Its frontier score is the area under this curve
divided by the width of the range: the mean of the metric over a range of budgets, in which every halving of the budget
has the same weight. All methods of a table are scored over the same range, so that scores can be compared. Missing
results are not made up:

- A method has no score if it lacks a result at either end of the range, or if its cells failed or were unsupported at
  a budget in between. The score then comes with the reason.
- Where a method was never run at a budget in between, its neighbours are joined by a straight line, as any two
  neighbouring budgets are.
- Only seeds that a method has finished at all of its budgets in the range count.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npas_bench.leaderboard.statistics import half_width, ranks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from npas_bench.leaderboard.standings import Band, BoardTable, Standing

# The method that others are compared with, and its budget as a percentage of the full architecture.
BASELINE = "reduced"
BASELINE_SHARE = 10


class Score(NamedTuple):
    """A method's frontier score.

    Attributes:
        label: the method with its options.
        score: the mean of the metric over the logarithm of the budget; None if the method has no score.
        half_width: half the width of the 95 % t-interval over seeds; None below three seeds.
        seeds: how many seeds the score is the mean of.
        rank: one plus the number of methods whose score is significantly better; None where nothing is ranked.
        reason: why the method has no score; None if it has one.
    """

    label: str
    score: float | None
    half_width: float | None
    seeds: int
    rank: int | None
    reason: str | None


class Match(NamedTuple):
    """The number of parameters from which on a method is as good as the baseline is at the baseline's budget.

    Attributes:
        label: the method with its options.
        parameters: this number, interpolated between the logarithms of measured budgets.
        bound: `at`; or `below`, if the method is as good at its smallest measured budget already; or `above`, if it
            is not even as good at its largest.
    """

    label: str
    parameters: float
    bound: str


class Frontier(NamedTuple):
    """The frontier of a table.

    Attributes:
        lowest: the budget at which the range of the scores begins; None if no method has results at two budgets.
        highest: the budget at which the range ends.
        scores: the methods' scores, best first, and methods without a score last.
        target: the baseline's mean at the baseline's budget; None if it has no result there.
        matches: what each method needs to match the baseline, fewest parameters first.
    """

    lowest: int | None
    highest: int | None
    scores: list[Score]
    target: float | None
    matches: list[Match]


def frontier(table: BoardTable) -> Frontier:
    """The scores of a table's methods, and the parameters that they need to match the baseline.

    Both come from the whole table, even if only some of its rows are shown.
    """
    curves = _curves(table.all_bands)
    ends = _range(table.all_bands)
    target = _target(table)
    found = [] if target is None else [_match(label, curve, target, table) for label, curve in curves.items()]
    matches = [match for match in found if match is not None]
    matches.sort(key=lambda match: (match.bound == "above", match.parameters, match.label))
    if ends is None:
        return Frontier(None, None, [], target, matches)
    return Frontier(*ends, _scores(curves, table, *ends), target, matches)


_Curve = list[tuple[int, str, "Standing"]]


def _curves(bands: Iterable[Band]) -> dict[str, _Curve]:
    """The standings of each method, by rising budget."""
    curves: dict[str, _Curve] = {}
    for band in bands:
        for standing in band.standings:
            curves.setdefault(standing.label, []).append((band.budget, band.text, standing))
    return curves


def _range(bands: Sequence[Band]) -> tuple[int, int] | None:
    """The budgets at which the range of the scores begins and ends, so that many methods share a wide range.

    They are the pair of budgets for which the number of methods with results at both, times the logarithm of the
    budgets' quotient, is largest.
    """
    labels = sorted({standing.label for band in bands for standing in band.standings if standing.mean is not None})
    places = {label: place for place, label in enumerate(labels)}
    there = np.zeros((len(bands), len(labels)), dtype=np.float32)
    for row, band in enumerate(bands):
        for standing in band.standings:
            if standing.mean is not None:
                there[row, places[standing.label]] = 1
    used = [row for row, methods in enumerate(there.sum(axis=1)) if methods]
    if len(used) < 2:
        return None
    logs = np.log([bands[row].budget for row in used])
    methods = there[used] @ there[used].T
    worth = methods * np.maximum(logs[None, :] - logs[:, None], 0)
    # Rounding makes every machine take the first of equal pairs.
    low, high = divmod(int(np.argmax(np.round(worth, 6))), len(used))
    if worth[low, high] <= 0:
        return None
    return bands[used[low]].budget, bands[used[high]].budget


def _scores(curves: Mapping[str, _Curve], table: BoardTable, lowest: int, highest: int) -> list[Score]:
    by_seed: dict[str, dict[int, float]] = {}
    reasons: dict[str, str] = {}
    for label, curve in curves.items():
        found = _score_by_seed(curve, lowest, highest, {band.budget: band.text for band in table.all_bands})
        if isinstance(found, str):
            reasons[label] = found
        else:
            by_seed[label] = found
    ranked = ranks(by_seed, higher_is_better=table.higher_is_better)
    scores = [
        Score(label, math.fsum(values.values()) / len(values), half_width([*values.values()]), len(values), None, None)
        for label, values in by_seed.items()
    ]
    sign = -1 if table.higher_is_better else 1
    scores = [score._replace(rank=ranked.get(score.label)) for score in scores]
    scores.sort(key=lambda s: (s.rank is None, s.rank or 0, sign * (s.score or 0.0), s.label))
    return scores + [Score(label, None, None, 0, None, reasons[label]) for label in sorted(reasons)]


def _score_by_seed(curve: _Curve, lowest: int, highest: int, texts: Mapping[int, str]) -> dict[int, float] | str:
    """The score of each seed, or the reason why there is none."""
    inside = [point for point in curve if lowest <= point[0] <= highest]
    for _, text, standing in inside:
        if standing.mean is None:
            return f"{'failed' if standing.failed else 'unsupported'} at {text}"
    there = {budget for budget, _, _ in inside}
    missing = [texts[end] for end in (lowest, highest) if end not in there]
    if missing:
        return f"not run at {' and '.join(missing)}"
    seeds = set.intersection(*(set(standing.values) for _, _, standing in inside))
    if not seeds:
        return "no seed is done at all budgets"
    logs = [math.log(budget) for budget, _, _ in inside]
    return {
        seed: _area(logs, [standing.values[seed] for _, _, standing in inside]) / (logs[-1] - logs[0])
        for seed in sorted(seeds)
    }


def _area(places: Sequence[float], heights: Sequence[float]) -> float:
    """The area under the straight lines from point to point."""
    steps = zip(places, places[1:], heights, heights[1:], strict=False)
    return math.fsum((right - left) * (first + second) / 2 for left, right, first, second in steps)


def _target(table: BoardTable) -> float | None:
    budget = table.full * BASELINE_SHARE // 100
    for band in table.all_bands:
        if band.budget == budget:
            return next((s.mean for s in band.standings if s.label == BASELINE), None)
    return None


def _match(label: str, curve: _Curve, target: float, table: BoardTable) -> Match | None:
    """The budget from which on a method stays as good as the target, up to its largest budget.

    None if the method has fewer than two budgets with a mean.
    """
    sign = 1 if table.higher_is_better else -1
    points = [(budget, sign * (s.mean - target)) for budget, _, s in curve if s.mean is not None]
    if len(points) < 2:
        return None
    good = len(points)
    while good and points[good - 1][1] >= 0:
        good -= 1
    if good == len(points):
        return Match(label, points[-1][0], "above")
    if good == 0:
        return Match(label, points[0][0], "below")
    (left, short), (right, spare) = points[good - 1], points[good]
    share = -short / (spare - short)
    return Match(label, math.exp(math.log(left) + share * (math.log(right) - math.log(left))), "at")
