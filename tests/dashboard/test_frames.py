"""Tables of pages can be saved as CSV by their toolbar: no text in them is a formula to a spreadsheet."""

import pytest

from npas_bench.dashboard.frames import board_frame, cost_frame, encounter_frame, overall_frame, score_frame
from npas_bench.dashboard.words import with_unit
from npas_bench.leaderboard.comparison import head_to_head
from npas_bench.leaderboard.cost import COSTS, spent
from npas_bench.leaderboard.frontier import frontier
from npas_bench.leaderboard.reading import read_tables
from tests.boards import Made

FORMULA = '=HYPERLINK("http://x","y")'


@pytest.fixture
def shown():
    with Made() as made:
        for seed in range(3):
            for percent in (10, 50):
                where = {"architecture": "+1", "data_label": "@a", "percent": percent}
                made.add(FORMULA, seed, 1.0, **where)
                made.add("-b", seed, 2.0, **where)
        yield read_tables(made.database).shown


def texts(frame):
    return [value for name in frame for value in (name, *frame[name]) if isinstance(value, str)]


def test_no_text_of_a_table_is_a_formula(shown):
    (table,) = shown
    labels = [standing.label for standing in table.bands[0].standings]
    found = head_to_head(shown, *labels)
    cost = COSTS["parameters"]
    board = board_frame(shown)
    frames = [board.frame, score_frame(frontier(table)), cost_frame(spent(table, cost), cost)]
    seen = [text for frame in (*frames, encounter_frame(found), overall_frame(found)) for text in texts(frame)]
    seen += board.common.values()
    assert f"'{FORMULA}" in seen
    assert {"'-b", "'+1", "10%", "digits"} <= {*seen}
    assert not [text for text in seen if text.startswith(("=", "+", "-", "@"))]


def test_the_heading_of_a_metric_is_no_formula():
    assert with_unit("=1+1", "%") == "'=1+1 (%)"
    assert with_unit("error@1", "%") == "error@1 (%)"
