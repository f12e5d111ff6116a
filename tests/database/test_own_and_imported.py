"""An import never decides what is shown of own runs: which run is shown, and what its cell is called."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from npas_bench.cli.terminal.boards import print_board, print_run
from npas_bench.database.exchange import files
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.queries.boards import board_full, choose_boards, describe_boards
from npas_bench.database.queries.reproductions import Related, related_runs
from npas_bench.database.queries.results import find_run, read_results
from npas_bench.database.runs import add_runs, finish_run
from npas_bench.database.schema import CellRow
from npas_bench.leaderboard.published import open_published
from npas_bench.leaderboard.reading import read_tables
from tests.database.test_border import with_cell
from tests.database.test_exchange import file_of, own_run, record, rows

# Later than any run that ends while the tests run, and as far ahead as a clock may be.
LATER = (datetime.now(UTC) + timedelta(hours=12)).isoformat()


def shown(database):
    return [row.id for row in rows(database) if row.current]


def imported(database, **fields):
    """Import a run of the same cell with an id of its own, which finished after every other one."""
    ended = {"uid": "f" * 32, "finished": LATER} | fields
    if ended.get("state", "done") != "done":
        ended |= {"parameters": None, "ledger": None}
    return add_records(database, [file_of(record(0, **ended))])


@pytest.mark.parametrize("own", ["done", "unsupported"])
@pytest.mark.parametrize("state", ["done", "unsupported", "failed"])
def test_an_own_result_stays_the_one_that_is_shown_whatever_is_imported(database, own, state):
    number = own_run(database, state=own)
    assert imported(database, state=state).added == 1
    assert shown(database) == [number]
    # A later attempt at the imported run takes the place of the earlier one, and of nothing else.
    assert imported(database, state="done", attempt=9).replaced == 1
    assert shown(database) == [number]


def test_an_own_failure_gives_way_to_a_result_and_to_no_other_failure(database):
    number = own_run(database, state="failed")
    imported(database, state="failed")
    assert shown(database) == [number]
    imported(database, uid="e" * 32)
    assert [find_run(database, run).uid for run in shown(database)] == ["e" * 32]


def test_an_own_run_that_is_imported_into_its_own_database_stays_shown(database):
    number = own_run(database)
    before = find_run(database, number)
    # The copy says that it came from elsewhere, and that it finished later.
    again = record(0, uid=before.uid, created=before.created.isoformat(), attempt=5, finished=LATER, origin="x.jsonl")
    assert add_records(database, [file_of(again)]).local == 1
    assert shown(database) == [number]
    assert find_run(database, number).finished == before.finished


def test_a_run_that_fails_while_a_result_of_its_cell_is_imported_does_not_hide_it(database):
    number = own_run(database, end=False)
    imported(database)
    assert finish_run(database, number, "token", {"state": "failed"}, [])
    assert [find_run(database, run).uid for run in shown(database)] == ["f" * 32]


def strange_cell(seed=0, **fields):
    made = record(seed, uid=f"{seed + 0xE0:032x}", state="failed", parameters=None, ledger=None)
    told = {"full": 5, "budget_text": "100%", "recipe_name": "theirs"} | fields
    made["cell"] |= told | {"recipe": made["cell"]["recipe"] | {"name": told["recipe_name"]}}
    return made


def test_a_cell_that_is_run_here_is_called_as_this_installation_calls_it(database):
    add_records(database, [file_of(strange_cell(0), strange_cell(1))])
    own_run(database, 0)
    ours, theirs = (rows(database)[i].cell for i in (0, 1))
    mine = record(0)["cell"]
    assert (ours.full, ours.budget_text) == (mine["full"], mine["budget_text"])
    assert (ours.recipe_name, ours.recipe["name"]) == (mine["recipe_name"], mine["recipe_name"])
    # A cell that was not run here keeps the names that it came with.
    assert (theirs.full, theirs.budget_text, theirs.recipe_name) == (5, "100%", "theirs")
    (result,) = [one for one in read_results(database) if one.seed == 0]
    assert (result.full, result.budget_text, result.recipe) == (mine["full"], mine["budget_text"], "default")


def test_a_cell_that_was_run_here_keeps_its_first_name_whatever_is_imported_or_asked_for_later(database):
    own_run(database, 0)
    mine = record(0)["cell"]
    add_records(database, [file_of(strange_cell(0))])
    run = {"identity": mine["identity"]} | {
        name: record(0)["run"][name]
        for name in ("data_name", "data_label", "data_digest", "data_official", "device_class", "device")
    }
    add_runs(database, [mine | {"budget_text": "1551"}], [run | {"data_digest": "d" * 64}])
    with database.session() as session:
        cell = session.get_one(CellRow, mine["identity"])
        assert (cell.full, cell.budget_text, cell.recipe_name) == (
            mine["full"],
            mine["budget_text"],
            mine["recipe_name"],
        )


def test_a_run_ends_no_earlier_than_it_was_asked_for_though_the_clock_was_set_back(database, monkeypatch):
    number = own_run(database, end=False)
    early = datetime(2021, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("npas_bench.database.runs.now", lambda: early)
    assert finish_run(database, number, "token", {"state": "failed"}, [])
    row = find_run(database, number)
    assert row.created <= row.started <= row.finished


def with_value(value, **run):
    """The record of an imported run of the same cell, with another result."""
    return record(
        0, metrics=[{**record(0)["metrics"][0], "value": value}], **{"uid": "f" * 32, "finished": LATER} | run
    )


def badges(database):
    ((_, found),) = [
        (table.data, standing.badges)
        for table in read_tables(database).shown
        for band in table.bands
        for standing in band.standings
    ]
    return set(found)


def printed(function, *arguments, **options):
    console = Console(file=io.StringIO(), width=200)
    function(console, *arguments, **options)
    return " ".join(console.file.getvalue().split())


def test_an_imported_run_that_differs_is_told_on_the_board_and_where_the_run_is_shown(database):
    number = own_run(database)
    mine = record(0)["metrics"][0]["value"]
    add_records(database, [file_of(with_value(mine))])
    assert badges(database) == {"reproduced"}
    add_records(database, [file_of(with_value(mine + 7.5, uid="e" * 32), name="theirs.jsonl")])
    assert badges(database) == {"reproduced", "imported runs differ"}
    tables = read_tables(database).shown
    ((mean,),) = [[s.mean for s in band.standings] for table in tables for band in table.bands]
    assert mean == mine
    told = f"imported runs differ: reduced at 2%; npas-bench show RUN compares ({number})"
    assert told in printed(print_board, "mine", tables)
    row = find_run(database, number)
    shown = printed(print_run, row, related_runs(database, row))
    assert "of r.jsonl: the same metrics" in shown
    assert f"of theirs.jsonl: error@1 {mine + 7.5:.6g}, not {mine:.6g}" in shown


@pytest.mark.parametrize(("own", "theirs"), [("done", "unsupported"), ("unsupported", "done")])
def test_an_imported_run_that_came_to_another_end_is_told(database, own, theirs):
    number = own_run(database, state=own)
    imported(database, state=theirs)
    assert "imported runs differ" in badges(database)
    row = find_run(database, number)
    assert f"of r.jsonl: {theirs}" in printed(print_run, row, related_runs(database, row))


def test_an_imported_run_that_is_unsupported_too_differs_in_nothing(database):
    own_run(database, state="unsupported")
    imported(database, state="unsupported")
    assert badges(database) == set()


def test_what_differs_too_little_to_be_seen_on_a_board_is_told_only_where_the_run_is_shown(database):
    number = own_run(database)
    mine = record(0)["metrics"][0]["value"]
    add_records(database, [file_of(with_value(mine + 1e-9))])
    assert badges(database) == {"reproduced"}
    row = find_run(database, number)
    assert "of r.jsonl: error@1" in printed(print_run, row, related_runs(database, row))


def test_data_that_is_official_by_an_import_alone_is_told_as_a_claim(database):
    add_records(database, [file_of(record(0, data_official=True))])
    (table,) = read_tables(database).shown
    assert (table.data, badges(database)) == ("digits, official data as claimed", {"official data as claimed"})
    assert "digits, official data as claimed" in printed(print_run, rows(database)[0], Related(None, []), claimed=True)
    # An own run on data of this digest, with another seed, says the same.
    own_run(database, 1)
    (table,) = read_tables(database).shown
    assert table.data == "digits"
    assert badges(database) == {"some seeds imported"}


def test_data_that_an_import_calls_unofficial_is_told_as_before(database):
    add_records(database, [file_of(record(0, data_official=False))])
    assert badges(database) == {"unofficial data"}


def test_what_all_results_of_a_table_share_is_told_by_own_runs(database):
    # The smaller budget comes first in the table.
    theirs = with_cell(5, budget=10, full=5)
    theirs["cell"]["recipe_name"] = theirs["cell"]["recipe"]["name"] = "theirs"
    theirs["run"] |= {"uid": "d" * 32, "state": "unsupported", "ledger": None, "parameters": None}
    theirs["run"] |= {"data_label": "dogs", "data_official": False}
    theirs["metrics"] = []
    add_records(database, [file_of(theirs)])
    own_run(database)
    (table,) = read_tables(database).shown
    assert [band.budget for band in table.bands] == [10, 1551]
    assert (table.full, table.recipe, table.data_label, table.data_official) == (77_562, "default", "digits", True)
    (board,) = choose_boards(database).chosen
    assert board_full(database, board) == 77_562
    (facts,) = describe_boards(database, [board])
    assert (facts.recipe, facts.data_label) == ("default", "digits")


@pytest.mark.parametrize("strange", [{"name": "accuracy"}, {"unit": ""}, {"higher_is_better": True}], ids=str)
def test_an_imported_metric_is_not_averaged_with_another_one_of_own_runs(database, strange):
    # Where the task is not installed, an import cannot tell that these are not its metrics.
    number = own_run(database)
    made = record(1)
    made["metrics"] = [made["metrics"][0] | {"value": 97.0} | strange]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "contradiction", lambda _: None)
        add_records(database, [file_of(made)])
    (table,) = read_tables(database).shown
    ((standing,),) = [band.standings for band in table.bands]
    mine = record(0)["metrics"][0]
    assert (standing.mean, standing.seeds, standing.failed) == (mine["value"], 1, 1)
    assert (table.metric, table.unit, table.higher_is_better) == ("error@1", "%", False)
    assert [run.run for run in standing.runs if run.value is not None] == [number]


def test_the_published_board_is_taken_at_its_word():
    published = open_published()
    tables = read_tables(published).shown
    published.close()
    assert tables
    assert not any(table.data_claimed for table in tables)
