"""How far a repetition may differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npas_bench.errors import NpasBenchError
from npas_bench.verify.tolerances import ELSEWHERE, Circumstances, Tolerance, chosen_tolerance, usual_tolerance

HERE = Circumstances("cpu", "Linux x86_64 AVX512 2 cores", {"torch": "2.12.1", "python": "3.11.7"})


@pytest.mark.parametrize(
    ("then", "relative", "reason"),
    [
        (HERE, 0.0, "on a CPU of this instruction set"),
        (HERE._replace(host="Linux x86_64 AVX512 64 cores"), 0.0, "on a CPU of this instruction set"),
        (HERE._replace(versions={**HERE.versions, "python": "3.12.0"}), 0.0, "on a CPU of this instruction set"),
        (HERE._replace(host="Linux x86_64 AVX2 2 cores"), ELSEWHERE, "made on Linux x86_64 AVX2 2 cores"),
        (HERE._replace(host=""), ELSEWHERE, "made on an unknown host"),
        (HERE._replace(versions={"torch": "2.6.0"}), ELSEWHERE, "made with torch 2.6.0, and 2.12.1 is installed"),
        (HERE._replace(device_class="cuda"), ELSEWHERE, "a GPU adds numbers up in no fixed order"),
    ],
)
def test_results_are_to_agree_bit_for_bit_where_the_same_is_computed_and_the_reason_is_told(then, relative, reason):
    tolerance = usual_tolerance(then, HERE)
    assert tolerance.relative == relative
    assert reason in tolerance.reason


def test_a_tolerance_is_a_share_from_zero_to_below_one():
    assert chosen_tolerance(0.02).relative == 0.02
    for wrong in (-0.1, 1.0, float("nan"), float("inf")):
        with pytest.raises(NpasBenchError, match=r"--tolerance .* is wanted"):
            chosen_tolerance(wrong)


@given(st.floats(-1e6, 1e6), st.floats(0, 0.5), st.floats(0, 0.99))
def test_a_tolerance_allows_what_is_within_its_share_and_nothing_else(value, change, relative):
    other = value * (1 - change)
    tolerance = Tolerance(relative, "")
    assert tolerance.allows(value, value)
    if change < 0.999 * relative:
        assert tolerance.allows(value, other)
    if value * change != 0 and change > 1.001 * relative:
        assert not tolerance.allows(value, other)
