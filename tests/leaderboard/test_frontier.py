"""The frontier score against closed forms, and what has none."""

import math

import numpy as np
import pytest
from scipy import stats

from npas_bench.leaderboard.frontier import frontier
from npas_bench.leaderboard.standings import tabulate
from tests.leaderboard.test_standings import result

FULL = 1000


def at(method, percent, *values, **fields):
    """Results of a method at a budget, one a seed."""
    budget = {"budget": FULL * percent // 100, "budget_text": f"{percent}%"}
    return [result(method, seed, value, **budget, **fields) for seed, value in enumerate(values)]


def scores(*results, **fields):
    (table,) = tabulate([one for some in results for one in some])
    return frontier(table)


def test_a_metric_that_is_linear_in_the_logarithm_scores_the_mean_of_its_ends():
    found = scores(at("a", 1, 9.0), at("a", 10, 5.0), at("a", 100, 1.0))
    (score,) = found.scores
    assert (found.lowest, found.highest) == (10, 1000)
    assert (score.score, score.half_width, score.seeds) == (pytest.approx(5.0), None, 1)


def test_the_score_is_the_trapezoidal_area_over_its_range():
    budgets, values = np.array([2, 5, 10, 50]), np.array([9.0, 6.0, 5.5, 2.0])
    found = scores(*(at("a", percent, value) for percent, value in zip(budgets, values, strict=True)))
    area = np.trapezoid(values, np.log(budgets * FULL / 100)) / math.log(50 / 2)
    assert found.scores[0].score == pytest.approx(area)


def test_its_interval_is_students_over_the_seeds_scores():
    rng = np.random.default_rng(0)
    low, high = rng.normal(8, 1, 5), rng.normal(3, 1, 5)
    (score,) = scores(at("a", 1, *low), at("a", 100, *high)).scores
    each = (low + high) / 2
    left, right = stats.t.interval(0.95, 4, each.mean(), stats.sem(each))
    assert (score.score, score.seeds) == (pytest.approx(each.mean()), 5)
    assert score.half_width == pytest.approx((right - left) / 2)


def test_only_seeds_that_are_done_at_every_budget_count():
    found = scores(at("a", 1, 8.0, 9.0, 100.0), at("a", 100, 2.0, 3.0))
    assert (found.scores[0].score, found.scores[0].seeds) == (pytest.approx(5.5), 2)
    apart = [result("a", seed, 1.0, budget=budget) for seed, budget in ((0, 10), (1, 100))]
    assert scores(apart).scores[0] == ("a", None, None, 0, None, "no seed is done at all budgets")


def test_the_range_is_the_widest_that_most_methods_reach():
    wide = [*at("a", 1, 5.0), *at("a", 10, 4.0), *at("a", 50, 3.0)]
    narrow = [one for method in "bcd" for one in (*at(method, 10, 4.0), *at(method, 50, 3.0))]
    found = scores(wide, narrow)
    # Four methods from 10 to 50 %, worth 4 log 5 = 6.4, against one from 1 to 50 %, worth log 50 = 3.9.
    assert (found.lowest, found.highest) == (100, 500)
    assert [score.label for score in found.scores] == ["a", "b", "c", "d"]


def test_what_a_method_did_not_do_is_not_made_up():
    found = scores(
        *(at("good", percent, 5.0) for percent in (1, 10, 50)),
        *(at("also", percent, 6.0) for percent in (1, 10, 50)),
        [*at("short", 10, 1.0), *at("short", 50, 1.0)],
        [*at("never", 1, 0, state="unsupported"), *at("never", 10, 1.0), *at("never", 50, 1.0)],
        [*at("broken", 1, 1.0), *at("broken", 10, 0, state="failed"), *at("broken", 50, 1.0)],
        [*at("bridged", 1, 8.0), *at("bridged", 50, 2.0)],
    )
    assert (found.lowest, found.highest) == (10, 500)
    assert {s.label: s.reason for s in found.scores if s.score is None} == {
        "short": "not run at 1%",
        "never": "unsupported at 1%",
        "broken": "failed at 10%",
    }
    assert [(s.label, s.score) for s in found.scores if s.score is not None] == [
        ("bridged", pytest.approx(5.0)),
        ("good", pytest.approx(5.0)),
        ("also", pytest.approx(6.0)),
    ]


def test_scores_are_ranked_as_results_are():
    steady = [0.0, 0.1, -0.1]
    found = scores(
        *(at("good", percent, *(2 + s for s in steady)) for percent in (1, 100)),
        *(at("bad", percent, *(9 + s for s in steady)) for percent in (1, 100)),
        *(at("too", percent, *(2.01 - s for s in steady)) for percent in (1, 100)),
    )
    assert {score.label: score.rank for score in found.scores} == {"good": 1, "too": 1, "bad": 3}


@pytest.mark.parametrize("results", [at("a", 10, 1.0), at("a", 10, 0, state="unsupported")])
def test_one_budget_or_none_has_no_frontier(results):
    found = scores(results)
    assert (found.lowest, found.highest, found.scores) == (None, None, [])


def test_a_match_is_interpolated_on_the_logarithm_of_the_budget():
    found = scores(at("reduced", 1, 9.0), at("reduced", 10, 5.0), at("a", 1, 7.0), at("a", 100, 3.0))
    # 7 at 1 %, 3 at 100 %: 5 in the middle of their logarithms, at 10 %.
    assert found.target == 5.0
    assert [(m.label, m.parameters, m.bound) for m in found.matches] == [
        ("a", pytest.approx(100.0), "at"),
        ("reduced", pytest.approx(100.0), "at"),
    ]


def test_a_match_beyond_the_measured_budgets_is_a_bound():
    found = scores(
        [*at("reduced", 10, 5.0), *at("reduced", 50, 4.0)],
        [*at("better", 1, 4.0), *at("better", 2, 3.0)],
        [*at("worse", 1, 9.0), *at("worse", 50, 8.0)],
        # Good at first and bad later: what counts is from where on it stays good.
        [*at("unsteady", 1, 1.0), *at("unsteady", 10, 7.0), *at("unsteady", 100, 3.0)],
        at("alone", 10, 1.0),
    )
    assert {m.label: m.bound for m in found.matches} == {
        "better": "below",
        "reduced": "below",
        "unsteady": "at",
        "worse": "above",
    }
    unsteady = next(m for m in found.matches if m.label == "unsteady")
    assert 100 < unsteady.parameters < 1000


def test_without_the_baseline_at_its_share_nothing_is_matched():
    found = scores(at("reduced", 5, 9.0), at("reduced", 20, 5.0), at("a", 1, 7.0), at("a", 100, 3.0))
    assert (found.target, found.matches) == (None, [])


def test_higher_may_be_better():
    up = {"higher_is_better": True, "metric": "accuracy@1"}
    found = scores(
        at("reduced", 10, 50.0, **up), at("reduced", 20, 60.0, **up), at("a", 1, 40.0, **up), at("a", 100, 60.0, **up)
    )
    assert next(m for m in found.matches if m.label == "a").parameters == pytest.approx(100.0)
