"""Results in words."""

import pytest

from npas_bench.leaderboard.standings import tabulate
from npas_bench.leaderboard.texts import interval_text, number_text, standing_text, trouble_texts
from tests.leaderboard.test_standings import result


def test_per_cents_have_two_decimals_and_everything_else_four():
    assert (number_text(8.2149, "%"), number_text(0.12345, "")) == ("8.21", "0.1235")
    assert interval_text(8.2149, 0.301, "%") == "8.21 ± 0.30"


def test_a_difference_shows_its_sign_either_way():
    assert interval_text(0.5, 0.25, "%", signed=True) == "+0.50 ± 0.25"
    assert interval_text(-0.5, None, "", signed=True) == "-0.5000"


@pytest.mark.parametrize(("state", "text"), [("failed", "failed"), ("unsupported", "unsupported")])
def test_a_standing_without_a_mean_says_why(state, text):
    (table,) = tabulate([result("ssn", state=state)])
    (standing,) = table.bands[0].standings
    assert standing_text(standing, "%") == text
    assert trouble_texts(standing) == ["1 failed" if state == "failed" else "unsupported"]
