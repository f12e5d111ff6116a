"""Which version of a task or method counts: own results decide, then imported ones, and a failure hides no result."""

from itertools import combinations

import pytest
from sqlalchemy import update

from npas_bench.database.drivers import CodeVersion, enter
from npas_bench.database.exchange.importing import add_records
from npas_bench.database.queries.boards import choose_boards
from npas_bench.database.queries.results import read_results
from npas_bench.database.runs import add_runs, claim_run, finish_run
from npas_bench.database.schema import RunRow
from npas_bench.leaderboard.reading import read_tables
from npas_bench.leaderboard.standings import tabulate
from tests.database.test_border import with_cell
from tests.database.test_exchange import INSTALLED, file_of, record
from tests.database.test_runs import finished

# What says most of a version comes first: how a run ended, and whether it is an own one.
SAYING = [("done", True), ("unsupported", True), ("done", False), ("unsupported", False), ("failed", True)]
SAYING += [("failed", False)]


def shown(database):
    """The versions of tasks and methods that the board has, which must not depend on who chooses them."""
    whole = tabulate(read_results(database))
    tables = read_tables(database).shown
    assert tables == whole
    runs = {run.run for table in tables for band in table.bands for one in band.standings for run in one.runs}
    found = [one for one in read_results(database) if one.run in runs]
    return {(one.task, one.method): (one.task_version, one.method_version) for one in found}


@pytest.mark.parametrize("kind", ["task", "method"])
def test_the_version_that_counts_is_the_newest_of_the_runs_that_say_most(database, kind):
    expected = {}
    for number, pair in enumerate(combinations(SAYING, 2)):
        # What says less has the later version, and comes later.
        for version, (state, own) in enumerate(pair, start=1):
            fields = {kind: f"{kind} {number}", f"{kind}_version": version}
            canonical = f'{{"task":"{fields.get("task")}","recipe":{{"epochs":3}}}}'
            run = finished(database, f"{number} {version}", state=state, canonical=canonical, **fields)
            if not own:
                with database.session.begin() as session:
                    session.execute(update(RunRow).where(RunRow.id == run).values(origin="theirs.jsonl"))
        key = (fields.get("task", "digits"), fields.get("method", "full"))
        expected[key] = (1, 1)
    assert shown(database) == expected
    assert choose_boards(database).total == len(read_tables(database).shown)


def test_of_runs_that_say_the_same_the_newest_version_counts(database):
    for version in (1, 3, 2):
        for state in ("done", "unsupported", "failed"):
            finished(database, f"{state} {version}", state=state, method=state, method_version=version)
    assert set(shown(database).values()) == {(1, 3)}


def own_run_of(database, made):
    """An own run of the cell of a record."""
    fields = ("data_name", "data_label", "data_digest", "data_official", "device_class", "device")
    run = {"identity": made["cell"]["identity"]} | {name: made["run"][name] for name in fields}
    (number,) = add_runs(database, [made["cell"]], [run])
    claim_run(database, number, enter(database, CodeVersion("1", "code")), "token", {})
    metrics = [{k: v for k, v in metric.items() if k != "position"} for metric in made["metrics"]]
    finish_run(database, number, "token", {"state": "done", "parameters": 5, "structure": {}}, metrics)
    return number


def ended(made, state):
    made["run"] |= {"state": state} | ({} if state == "done" else {"parameters": None, "ledger": None})
    return made if state == "done" else made | {"metrics": []}


HIDING = {
    "of the installed version of the task": {"task_version": INSTALLED},
    "of a task that is not installed": {"task": "elsewhere", "task_version": 2**31 - 1},
    "of a method that is not installed": {"method": "theirs", "method_version": 2**31 - 1},
}


@pytest.mark.parametrize("state", ["done", "unsupported", "failed"])
@pytest.mark.parametrize("what", HIDING)
def test_an_import_of_a_later_version_hides_no_own_result(database, what, state):
    later = HIDING[what]
    earlier = {name: INSTALLED - 1 if name == "task_version" else value for name, value in later.items()}
    earlier |= {"method_version": 1} if "method" in later else {}
    own = own_run_of(database, with_cell(0, **earlier))
    before = read_tables(database).shown
    # Of another cell, at another budget and so on another row.
    assert add_records(database, [file_of(ended(with_cell(7, **later), state))]).added == 1
    assert add_records(database, [file_of(ended(with_cell(8, architecture="wrn-16-2", **later), state))]).added == 1
    assert read_tables(database).shown == before == tabulate(read_results(database))
    ((run,),) = [[r.run for s in band.standings for r in s.runs] for table in before for band in table.bands]
    assert run == own


def test_an_import_of_a_later_version_is_shown_where_there_are_no_own_results(database):
    for version, seed in ((INSTALLED - 1, 1), (INSTALLED, 2)):
        add_records(database, [file_of(with_cell(seed, task_version=version))])
    (table,) = read_tables(database).shown
    assert [run.seed for run in table.bands[0].standings[0].runs] == [2]
    add_records(database, [file_of(record(3))])
    (table,) = read_tables(database).shown
    assert [run.seed for run in table.bands[0].standings[0].runs] == [2, 3]
