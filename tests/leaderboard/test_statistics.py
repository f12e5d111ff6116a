import itertools

import numpy as np
import pytest
from scipy import stats

from npas_bench.leaderboard.statistics import half_width, paired_difference, ranks, rejected_by_holm


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


def test_ranks_are_those_of_holms_procedure_pair_by_pair():
    rng = np.random.default_rng(2)
    for methods, seeds in ((2, 2), (3, 3), (5, 3), (8, 5), (30, 3)):
        for spread in (0.3, 1.0, 5.0):
            centres = rng.normal(scale=spread, size=methods)
            values = centres[:, None] + rng.normal(size=seeds) + rng.normal(size=(methods, seeds))
            table = {f"m{i:02}": dict(enumerate(row)) for i, row in enumerate(values)}
            assert ranks(table, higher_is_better=True) == pair_by_pair(values)


def pair_by_pair(values):
    """Ranks by the book: an analysis of variance, a t-test of every pair, Holm's procedure."""
    methods, seeds = values.shape
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (methods - 1) * (seeds - 1)
    error = np.sqrt((residual**2).sum() / freedom * 2 / seeds)
    pairs = list(itertools.combinations(range(methods), 2))
    p = [2 * stats.t.sf(abs(values[a].mean() - values[b].mean()) / error, freedom) for a, b in pairs]
    better = [0] * methods
    for count, place in enumerate(np.argsort(p)):
        if p[place] > 0.05 / (len(pairs) - count):
            break
        a, b = pairs[place]
        better[a if values[a].mean() < values[b].mean() else b] += 1
    return {f"m{i:02}": 1 + count for i, count in enumerate(better)}


def test_ten_thousand_methods_are_ranked():
    rng = np.random.default_rng(3)
    table = {f"m{i}": dict(enumerate(i / 100 + rng.normal(size=3))) for i in range(10_000)}
    found = ranks(table, higher_is_better=True)
    assert found["m9999"] < 100
    assert found["m0"] > 9_000


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5, 10])
def test_95_in_100_intervals_hold_the_mean(count):
    draws = np.random.default_rng(count).normal(3, 2, size=(20_000, count))
    inside = sum(abs(values.mean() - 3) <= half_width(values) for values in draws)
    assert 0.945 <= inside / len(draws) <= 0.955


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("methods", [2, 4, 8])
def test_equal_methods_are_told_apart_in_at_most_5_of_100(methods, seeds):
    rng = np.random.default_rng(methods)
    apart = 0
    for _ in range(20_000):
        values = rng.normal(size=(methods, seeds)) + 2 * rng.normal(size=seeds)
        table = {str(i): dict(enumerate(row)) for i, row in enumerate(values.tolist())}
        apart += len(set(ranks(table, higher_is_better=True).values())) > 1
    # The second only says that the test is no idle one.
    assert 0.02 <= apart / 20_000 <= 0.055


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_a_paired_difference_is_that_of_the_paired_t_test(count):
    first, second = np.random.default_rng(count).normal([[1.0], [0.4]], 1, size=(2, count))
    found = paired_difference(dict(enumerate(first)), {**dict(enumerate(second)), 99: 5.0})
    book = stats.ttest_rel(first, second)
    assert found.mean == pytest.approx((first - second).mean())
    assert found.pairs == count
    assert found.p == pytest.approx(book.pvalue)
    if count > 2:
        low, high = book.confidence_interval(0.95)
        assert found.half_width == pytest.approx((high - low) / 2)
    else:
        assert found.half_width is None


def test_what_shares_no_seed_has_no_difference_and_equals_differ_by_nothing():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: 3.0}, {0: 1.0}) == (2.0, None, 1, None)
    assert paired_difference({0: 1.0, 1: 2.0, 2: 2.5}, {0: 1.0, 1: 2.0, 2: 2.5}) == (0.0, 0.0, 3, 1.0)
    assert paired_difference({0: 2.0, 1: 3.0, 2: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0}).p < 1e-6


def test_holms_procedure_stops_at_the_first_it_keeps():
    assert rejected_by_holm([]) == []
    assert rejected_by_holm([0.04]) == [True]
    assert rejected_by_holm([0.04, 0.01]) == [True, True]
    assert rejected_by_holm([0.04, 0.03, 0.001]) == [False, False, True]


def test_a_method_that_shares_no_two_seeds_with_the_others_is_left_out_of_their_ranking():
    table = {name: {s: base + s / 100 for s in range(5)} for name, base in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    alone = {10: 0.0, 11: 0.1}
    assert ranks(table | {"x": alone}, higher_is_better=False) == {"a": 1, "b": 2, "c": 3}
    assert ranks(table | {"x": alone, "y": alone}, higher_is_better=False) == {"a": 1, "b": 2, "c": 3}
    assert ranks({"a": table["a"], "x": alone}, higher_is_better=False) == {}


def test_many_different_sets_of_seeds_are_ranked_by_the_two_commonest():
    rng = np.random.default_rng(4)
    table = {f"m{n}": {s: n + rng.normal() / 100 for s in (0, 1, 1000 + n)} for n in range(150)}
    table |= {f"x{n}": {2000 + n: 0.0, 3000 + n: 0.0} for n in range(5)}
    found = ranks(table, higher_is_better=True)
    assert set(found) == {f"m{n}" for n in range(150)}
    assert found["m149"] == 1
