import itertools

import numpy as np
import pytest
from scipy import stats

from npas_bench.leaderboard.statistics import half_width, ranks


@pytest.mark.parametrize("count", [3, 5, 10])
def test_the_interval_is_students(count):
    values = list(np.random.default_rng(0).normal(size=count))
    low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)


def test_there_is_no_interval_below_three_values():
    assert half_width([1.0, 2.0]) is None
    assert half_width([]) is None


def test_two_methods_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.5, 1.0, 2.0):
        a = rng.normal(size=4)
        b = a + shift + 0.3 * rng.normal(size=4)
        rank = ranks({"a": dict(enumerate(a)), "b": dict(enumerate(b))}, higher_is_better=True)
        significant = stats.ttest_rel(a, b).pvalue <= 0.05
        assert (rank["a"] != rank["b"]) == significant


def test_ranks_count_the_significantly_better_methods():
    noise = [0.0, 0.1, -0.1]
    table = {
        m: {s: base + noise[s] * (1 if m < "c" else -1) for s in range(3)}
        for m, base in {"a": 1.0, "b": 1.02, "c": 5.0, "d": 9.0}.items()
    }
    assert ranks(table, higher_is_better=False) == {"a": 1, "b": 1, "c": 3, "d": 4}
    assert ranks(table, higher_is_better=True) == {"d": 1, "c": 2, "a": 3, "b": 3}


def test_holms_procedure_is_stricter_than_single_tests():
    rng = np.random.default_rng(0)
    single = family = 0
    for _ in range(400):
        table = {m: dict(enumerate(rng.normal(size=5))) for m in "abcd"}
        family += len(set(ranks(table, higher_is_better=True).values())) > 1
        single += any(
            stats.ttest_rel(list(table[x].values()), list(table[y].values())).pvalue < 0.05
            for x, y in itertools.combinations("abcd", 2)
        )
    assert family / 400 <= 0.08
    assert single > 2 * family


def test_only_seeds_that_all_ranked_methods_have_are_compared():
    table = {"a": {0: 1.0, 1: 1.1, 2: 99.0}, "b": {0: 5.0, 1: 5.1}, "alone": {0: 0.0}}
    assert ranks(table, higher_is_better=False) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "table",
    [{}, {"a": {0: 1.0, 1: 2.0}}, {"a": {0: 1.0}, "b": {0: 2.0}}, {"a": {0: 1.0, 1: 2.0}, "b": {2: 1.0, 3: 1.0}}],
)
def test_there_is_nothing_to_rank_below_two_methods_with_two_shared_seeds(table):
    assert ranks(table, higher_is_better=True) == {}


def test_equal_values_share_a_rank_and_exact_differences_do_not():
    same = {s: 2.0 for s in range(3)}
    assert ranks({"a": same, "b": dict(same)}, higher_is_better=True) == {"a": 1, "b": 1}
    assert ranks({"a": same, "b": {s: 3.0 for s in range(3)}}, higher_is_better=True) == {"a": 2, "b": 1}
