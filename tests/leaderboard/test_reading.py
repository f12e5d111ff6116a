"""Tables read for a board are those that all results together make."""

import json
from dataclasses import replace

from sqlalchemy import select

from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import read_results
from npas_bench.database.schema import CellRow, RunRow
from npas_bench.leaderboard.published import build_board
from npas_bench.leaderboard.reading import read_tables
from npas_bench.leaderboard.standings import tabulate
from tests.conftest import REPOSITORY


def test_the_published_results_make_the_tables_that_they_make_one_by_one(tmp_path):
    build_board(REPOSITORY / "results", tmp_path / "board.db")
    database = open_for_reading(locate(str(tmp_path / "board.db")))
    with database.session() as session:
        rows = session.execute(
            select(RunRow.id, CellRow.canonical, RunRow.data_digest, RunRow.device_class).join(
                CellRow, CellRow.identity == RunRow.identity
            )
        )
        keys = {}
        for run, canonical, *data in rows:
            cell = json.loads(canonical)
            keys[run] = json.dumps([cell["task"], cell["architecture"], cell["recipe"], *data], sort_keys=True)
    wanted = tabulate([result._replace(board=keys[result.run]) for result in read_results(database)])
    tables = read_tables(database)
    database.close()
    assert len(wanted) >= 2
    assert [replace(table, key="") for table in tables.shown] == [replace(table, key="") for table in wanted]
    assert tables.total == len(wanted)
