import pytest
from hypothesis import given
from hypothesis import strategies as st

from npas_bench.cells.grid import Expander, read_grid
from npas_bench.forecast.forecast import Estimate
from npas_bench.forecast.outlook import finish, look_out
from npas_bench.runner.planned import PlannedCell


@pytest.mark.parametrize(
    ("jobs", "lanes", "end"),
    [
        ([], 2, 0),
        ([(3, 1), (3, 1), (2, 1), (2, 1), (2, 1)], 2, 7),
        ([(1, 1), (1, 1), (4, 1)], 2, 4),
        ([(1, 1), (1, 1), (2, 2)], 2, 3),
        ([(5, 8)], 2, 5),
    ],
)
def test_the_longest_begins_first(jobs, lanes, end):
    assert finish(jobs, lanes) == end


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.integers(1, 8))
def test_the_end_is_between_what_is_possible_and_the_bound_of_list_scheduling(seconds, lanes):
    least = max(sum(seconds) / lanes, max(seconds))
    assert least - 1e-6 <= finish([(each, 1) for each in seconds], lanes) <= (4 / 3) * least + max(seconds) + 1e-6


def test_an_outlook_adds_up_and_takes_no_disk_for_what_is_not_running():
    cells = Expander().cells(read_grid("lowbudget"))
    source = Expander().task("digits").source()
    items = [PlannedCell(cell, 0, source, "cpu") for cell in cells]
    two, eight = (look_out(items, [Estimate(2.0, 10**9, "runs", True)] * len(items), n) for n in (2, 8))
    assert two.cells == 90
    assert two.device_seconds == pytest.approx(eight.device_seconds) == pytest.approx(90 * 2.15)
    assert eight.seconds < two.seconds / 2
    assert two.memory == 10**9
    assert two.checkpoints < eight.checkpoints < 100 * 2**20
    assert 300_000 < two.growth == eight.growth < 1_500_000
    assert look_out([], [], 2).seconds == 0
