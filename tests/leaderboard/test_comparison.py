"""Two methods head to head."""

import pytest
from scipy import stats

from npas_bench.leaderboard.comparison import head_to_head
from npas_bench.leaderboard.cost import COSTS, spent
from npas_bench.leaderboard.standings import tabulate
from tests.leaderboard.test_frontier import at
from tests.leaderboard.test_standings import result

FIRST = (5.0, 5.2, 4.9, 5.1)


def shifted(by, *noise):
    return [value + by + n for value, n in zip(FIRST, noise or (0.01, -0.01, 0.02, 0.0), strict=True)]


def test_every_shared_budget_is_a_paired_t_test_and_holm_decides():
    tables = tabulate(
        [
            *at("a", 1, *FIRST),
            *at("b", 1, *shifted(3)),
            *at("a", 10, *FIRST),
            *at("b", 10, *shifted(0, 0.3, -0.3, 0.2, -0.1)),
            *at("a", 50, *FIRST),
            *at("b", 50, *shifted(-1)),
        ]
    )
    found = head_to_head(tables, "a", "b")
    assert [(e.text, e.winner) for e in found.encounters] == [("1%", "a"), ("10%", None), ("50%", "b")]
    book = stats.ttest_rel(FIRST, shifted(3))
    assert found.encounters[0].difference.p == pytest.approx(book.pvalue)
    assert found.wins == (1, 1)
    assert found.verdict == (
        "Over 3 shared comparisons, a is significantly better in 1, b in 1, and 1 cannot be told apart."
    )


def test_the_mean_over_budgets_is_paired_by_seed():
    tables = tabulate([*at("a", 1, *FIRST), *at("b", 1, *shifted(3)), *at("a", 10, *FIRST), *at("b", 10, *shifted(1))])
    (overall,) = head_to_head(tables, "a", "b").overall
    assert overall.budgets == 2
    assert overall.difference.mean == pytest.approx(-2 - (0.01 - 0.01 + 0.02) / 4)
    assert overall.difference.pairs == 4


def test_what_one_of_the_two_lacks_takes_no_part_and_is_counted():
    tables = tabulate(
        [
            *at("a", 1, 1.0),
            *at("b", 1, 0, state="unsupported"),
            *at("a", 10, 0, state="failed"),
            *at("b", 10, 1.0),
            *at("a", 50, 1.0),
            *at("c", 75, 1.0),
        ]
    )
    found = head_to_head(tables, "a", "b")
    assert (found.encounters, found.overall, found.missing) == ([], [], 3)
    assert found.verdict == "a and b have no budget in common at which both have a result."


def test_one_shared_seed_or_none_cannot_be_tested():
    tables = tabulate(
        [*at("a", 1, 1.0), *at("b", 1, 2.0), result("a", 0, 1.0, budget=500), result("b", 7, 2.0, budget=500)]
    )
    found = head_to_head(tables, "a", "b")
    assert [e.winner for e in found.encounters] == [None, None]
    assert found.encounters[1].difference is None
    assert found.verdict == (
        "Over 2 shared comparisons, a and b cannot be told apart in any. "
        "2 of them could not be tested: it takes two seeds that both have."
    )


def test_many_comparisons_must_each_be_more_certain():
    pair = [*at("a", 1, *FIRST), *at("b", 1, *shifted(0.35, 0.3, -0.2, 0.2, -0.1))]
    assert head_to_head(tabulate(pair), "a", "b").wins == (1, 0)
    more = [
        one
        for percent in range(2, 12)
        for one in (*at("a", percent, *FIRST), *at("b", percent, *shifted(0, 0.3, -0.3, 0.1, -0.1)))
    ]
    assert head_to_head(tabulate(pair + more), "a", "b").wins == (0, 0)


def test_the_pareto_set_is_what_nothing_beats_at_its_cost():
    results = [
        result("cheap", value=9.0, seconds_per_step=1.0),
        result("good", value=5.0, seconds_per_step=2.0),
        result("same", value=5.0, seconds_per_step=3.0),
        result("tied", value=6.0, seconds_per_step=2.0),
        result("best", value=1.0, seconds_per_step=9.0),
        result("untimed", value=0.0, seconds_per_step=None),
        result("none", state="unsupported"),
    ]
    (table,) = tabulate(results)
    found = spent(table, COSTS["time"])
    assert [(one.standing.method, one.cost, one.best) for one in found] == [
        ("cheap", 1000.0, True),
        ("good", 2000.0, True),
        ("tied", 2000.0, False),
        ("same", 3000.0, False),
        ("best", 9000.0, True),
    ]
    ties = [result(name, value=5.0, seconds_per_step=2.0) for name in ("a", "b")]
    assert [one.best for one in spent(tabulate(ties)[0], COSTS["time"])] == [True, True]
    (turned,) = tabulate([one._replace(higher_is_better=True) for one in results])
    assert [one.standing.method for one in spent(turned, COSTS["time"]) if one.best] == ["cheap"]


def test_costs_have_their_units():
    (table,) = tabulate([result(seconds_per_step=0.25, peak_memory=2**31, forward_flops=3e9, generation_flops=5e8)])
    assert [spent(table, cost)[0].cost for cost in COSTS.values()] == [250.0, 2048.0, 3500.0, 99]
