import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from npas_bench.budget import Budget, Ledger, Role, count_scalars
from npas_bench.errors import BudgetError, OverBudget


@pytest.mark.parametrize(
    ("text", "full", "count"),
    [
        ("10%", 77_562, 7_756),
        ("0.5%", 1_000, 5),
        ("4x", 691_674, 2_766_696),
        ("3.65M", 1, 3_650_000),
        ("365k", 1, 365_000),
        ("365000", 1, 365_000),
        ("1G", 1, 10**9),
        (" 33.3% ", 1000, 333),
        (365000, 1, 365_000),
        ("0.29%", 10_000, 29),  # 0.29 * 10000 / 100 is 28.999... in floating point
    ],
)
def test_budgets_come_to_whole_scalars_rounded_down(text, full, count):
    assert Budget.parse(text).resolve(full) == count


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0%",
        "-1",
        "-10%",
        "",
        "ten",
        "1e5",
        "nan",
        "inf",
        "10 %",
        "%",
        "1.5",
        "0.0001k",
        "3,000",
        "5K",
        "1%%",
        "٣",
        "9" * 5000,
    ],
)
def test_what_is_no_positive_amount_is_refused_with_the_forms(text):
    with pytest.raises(BudgetError, match="write it as 10%"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["99999999999999999999", "99999999999999999999x", "9999999999999G"])
def test_a_budget_beyond_all_networks_is_refused(text):
    with pytest.raises(BudgetError, match="more than any network"):
        Budget.parse(text).resolve(1000)


def test_a_share_of_less_than_one_parameter_is_refused():
    with pytest.raises(BudgetError, match="less than one"):
        Budget.parse("0.001%").resolve(1000)


@given(st.integers(1, 10**6), st.integers(1, 10**9))
def test_shares_never_round_up(hundredths, full):
    share = Budget.parse(f"{hundredths / 100:.2f}%")
    exact = hundredths * full
    if exact >= 10_000:
        assert share.resolve(full) == exact // 10_000


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_scalars_are_counted_by_storage_once(device):
    base = torch.zeros(100, device=device)
    tied = nn.Parameter(base[:40])
    named = [
        ("a", tied),
        ("again", tied),
        ("overlapping", base[30:60]),
        ("apart", base[90:]),
        ("other", torch.zeros(5, device=device)),
        ("empty", torch.zeros(0, device=device)),
    ]
    roles = {"a": Role.STORE, "again": Role.STORE, "overlapping": Role.MASKS}
    counts = count_scalars(named, roles)
    assert counts == {Role.FIXED: 15, Role.STORE: 40, Role.COEFFICIENTS: 0, Role.MASKS: 20, Role.GENERATORS: 0}


def test_a_complex_number_is_two_scalars():
    assert sum(count_scalars([("z", torch.zeros(7, dtype=torch.cfloat))], {}).values()) == 14


def test_two_meta_networks_are_not_taken_for_one():
    with torch.device("meta"):
        layers = nn.ModuleList(nn.Linear(3, 4) for _ in range(5))
    assert sum(count_scalars(layers.named_parameters(), {}).values()) == 5 * 16


def test_an_over_budget_ledger_is_refused_with_its_parts():
    with pytest.raises(OverBudget, match=r"net counts 11 .*, 1 over its budget of 10: fixed 4, store 7"):
        Ledger(fixed=4, store=7, budget=10).check("net")
    assert Ledger(fixed=4, store=6, budget=10).check("net").total == 10


def test_state_that_training_changed_counts():
    with pytest.raises(OverBudget):
        Ledger(fixed=4, store=6, state=1, budget=10).check("net")
